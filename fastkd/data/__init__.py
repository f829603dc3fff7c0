"""Floor 4: files to arrays to batches. See README.md in this folder."""

from fastkd.data.batch import Batch
from fastkd.data.batches import batches, num_batches
from fastkd.data.config import DataConfig
from fastkd.data.dataset import Dataset, IdMap
from fastkd.data.fetch import SOURCES, Fetched, Source, fetch, fetch_source
from fastkd.data.filters import deduplicate, k_core, threshold
from fastkd.data.loading import PreparedLog, load_dataset, prepare_log
from fastkd.data.log import IdColumn, InteractionLog, ReadOptions
from fastkd.data.planted import SyntheticConfig
from fastkd.data.readers import read_interactions
from fastkd.data.reading import Reading
from fastkd.data.sequences import UserSequences, build_sequences
from fastkd.data.source import changed_files, record_files
from fastkd.data.splits import column_split, cut_valid, leave_one_out, random_split, temporal_split
from fastkd.data.store import is_store, open_store, save_store, store_provenance
from fastkd.data.summary import DatasetSummary, dataset_summary
from fastkd.data.synthetic import OracleTables, SyntheticDataset, synthetic_dataset

__all__ = [
    "SOURCES",
    "Batch",
    "DataConfig",
    "Dataset",
    "DatasetSummary",
    "Fetched",
    "IdColumn",
    "IdMap",
    "InteractionLog",
    "OracleTables",
    "PreparedLog",
    "ReadOptions",
    "Reading",
    "Source",
    "SyntheticConfig",
    "SyntheticDataset",
    "UserSequences",
    "batches",
    "build_sequences",
    "changed_files",
    "column_split",
    "cut_valid",
    "dataset_summary",
    "deduplicate",
    "fetch",
    "fetch_source",
    "is_store",
    "k_core",
    "leave_one_out",
    "load_dataset",
    "num_batches",
    "open_store",
    "prepare_log",
    "random_split",
    "read_interactions",
    "record_files",
    "save_store",
    "store_provenance",
    "synthetic_dataset",
    "temporal_split",
    "threshold",
]
