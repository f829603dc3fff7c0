"""Floor 6: metrics, full-catalogue ranking, significance and the study report."""

from fastkd.evaluation.metrics import METRICS, UserMetrics, metrics_from_lists, metrics_from_ranks
from fastkd.evaluation.ranking import EvalConfig, Evaluation, evaluate, mean_evaluation
from fastkd.evaluation.recovered import Recovered, recovered_share
from fastkd.evaluation.report import render_report, report_tables, write_report
from fastkd.evaluation.significance import PairedTest, holm, paired_test
from fastkd.evaluation.study import Curve, MetricSummary, ReportTable, StudyReport, StudyRow, Tuned

__all__ = [
    "METRICS",
    "Curve",
    "EvalConfig",
    "Evaluation",
    "MetricSummary",
    "PairedTest",
    "Recovered",
    "ReportTable",
    "StudyReport",
    "StudyRow",
    "Tuned",
    "UserMetrics",
    "evaluate",
    "holm",
    "mean_evaluation",
    "metrics_from_lists",
    "metrics_from_ranks",
    "paired_test",
    "recovered_share",
    "render_report",
    "report_tables",
    "write_report",
]
