"""``fastkd distill`` and ``fastkd train``: run a study, or one role of it, in a study folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from fastkd.cli.config import find_data, seed_list, split_list, stored_study, study_config
from fastkd.cli.console import note, print_json, print_yaml
from fastkd.cli.options import DryRun, Folder, Json, Overrides, Preset, StudyFile
from fastkd.core.config import to_yaml
from fastkd.core.errors import ConfigError

if TYPE_CHECKING:
    from fastkd.cli.results import StudyResults
    from fastkd.cli.study import Selection
    from fastkd.presets import StudyConfig


class Role(StrEnum):
    """What ``fastkd train`` trains."""

    teacher = "teacher"
    student = "student"


Methods = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--methods",
        "--method",
        metavar="A,B",
        help="Students to train; `none` is the plain one. A method the study lacks comes with default options.",
        show_default="all",
    ),
]
SeedList = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--seeds", "--seed", metavar="0,1", help="Training seeds of the students.", show_default="the study's"
    ),
]
TeacherFiles = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--teacher",
        metavar="PATH",
        help="Teacher from files: a run folder, an export, a folder of checkpoints; lists .parquet or .csv (user, "
        "item, rank, perhaps score) in the data's own ids; vectors .safetensors (users, items) or two .npy (the option "
        "twice), where row i is the i-th id of FOLDER/data/users.npy or items.npy (no such file: id i); or a "
        "teacher.yaml (or its folder), which says whose vectors or lists they are. Several teachers: give the option "
        "for each.",
    ),
]

Tune = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--tune",
        metavar="N",
        min=1,
        help="Before the runs, N trials for every student on the validation split of the first seed; the best "
        "values are used for all seeds. Needs the extra `tune` (Optuna).",
        show_default="no tuning",
    ),
]


def distill(
    study: StudyFile = None,
    *,
    preset: Preset = None,
    methods: Methods = None,
    seeds: SeedList = None,
    folder: Folder = None,
    teacher: TeacherFiles = None,
    tune: Tune = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Run a study: teacher, plain student, distilled students, and the numbers side by side.

    What is finished is kept; what was interrupted goes on; further methods and seeds can be added later.

    Example:  fastkd distill --preset citeulike --methods none,rrd --seeds 0,1 --folder runs/citeulike

    Go on with an interrupted study:  fastkd distill --folder runs/citeulike

    Choose weights first, 20 trials for every student:  fastkd distill --preset citeulike --tune 20
    """
    from fastkd.cli.study import Selection

    find_data()
    config = _study(study, preset, folder, overrides, teacher)
    names = split_list(methods)
    if names is not None:
        config, names = _with_methods(config, names, _methods_of(folder or Path("runs") / config.name))
    selection = Selection(methods=names, seeds=seed_list(seeds), tune=tune)
    _go(config, folder, selection, dry_run=dry_run, json=json)


def train(
    study: StudyFile = None,
    *,
    role: Annotated[Role, typer.Option(help="The teacher, or the student without a teacher.")] = Role.teacher,
    preset: Preset = None,
    seeds: SeedList = None,
    folder: Folder = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train one role of a study alone: its teacher, or its plain student.

    Example:  fastkd train --preset ml1m --role teacher --folder runs/ml1m
    """
    from fastkd.cli.study import Selection

    find_data()
    config = _study(study, preset, folder, overrides, None)
    if role is Role.teacher and seeds is not None:
        raise ConfigError(f"--seeds {seeds} is for students; the teacher's is --set teacher.training.seed={seeds}")
    alone = Selection(methods=(), seeds=(), teacher=True)
    plain = Selection(methods=("none",), seeds=seed_list(seeds), teacher=False)
    _go(config, folder, alone if role is Role.teacher else plain, dry_run=dry_run, json=json)


def _study(
    study: Path | None,
    preset: str | None,
    folder: Path | None,
    overrides: list[str] | None,
    teacher: list[str] | None,
) -> StudyConfig:
    """Return the study asked for; a folder alone stands for the study it holds."""
    if study is None and preset is None and folder is not None:
        if overrides or teacher:
            raise ConfigError(
                f"--set and --teacher would change the study in {folder}; give its file or preset with another --folder"
            )
        return stored_study(folder)
    return study_config(preset, study, overrides or (), teacher=teacher or ())


def _methods_of(folder: Path) -> tuple[str, ...]:
    """Return the students of the study in ``folder``, if there is one."""
    return stored_study(folder).method_names() if (folder / "study.yaml").is_file() else ()


def _with_methods(
    config: StudyConfig, names: tuple[str, ...], stored: tuple[str, ...] = ()
) -> tuple[StudyConfig, tuple[str, ...]]:
    """Return the study with those methods of ``names`` that it lacks, and the names that it has for all of them.

    A combination is the same whatever the order of its parts: it is called as in the study, else as in ``stored``, the
    students of the study's folder, else as it is named first. A new one takes over the options that its parts have in
    the study; anything else that is new has default options.
    """
    import dataclasses

    from fastkd.distillation import METHODS
    from fastkd.distillation.method import JOINT
    from fastkd.presets import MethodConfig

    known: dict[tuple[str, ...], str] = {}
    for name in (*config.method_names(), *stored, *names):
        known.setdefault(tuple(sorted(name.split(JOINT))), name)
    names = tuple(dict.fromkeys(known[tuple(sorted(name.split(JOINT)))] for name in names))
    added: dict[str, MethodConfig] = {}
    for name in names:
        if name in config.method_names() or name not in METHODS:
            continue
        parts = name.split(JOINT) if JOINT in name else ()
        taken = {part: config.options_of(part) for part in parts if part in config.methods}
        added[name] = MethodConfig(options={"methods": taken} if taken else {})
        if taken:
            note(f"{name} is not in the study; it takes over its options of {' and '.join(taken)}")
    plain = [name for name, entry in added.items() if not entry.options]
    if plain:
        note(f"not in the study, so with default options: {', '.join(plain)}")
    return dataclasses.replace(config, methods={**config.methods, **added}), names


def _go(config: StudyConfig, folder: Path | None, selection: Selection, *, dry_run: bool, json: bool) -> None:
    """Print the resolved study, or run it and show what came of it."""
    from fastkd.cli.sampler import check_installed
    from fastkd.cli.study import resolved, run_study

    if selection.tune is not None:
        check_installed()
    if dry_run:
        print_yaml(to_yaml(resolved(config, selection)))
        return
    folder = folder or Path("runs") / config.name
    show(run_study(config, folder, selection=selection), folder, json=json)


def show(results: StudyResults, folder: Path, *, json: bool) -> None:
    """Print a study's results and where they are kept."""
    from fastkd.cli.tables import print_results

    if json:
        print_json(results.values)
        return
    print_results(results)
    note(f"results: {folder / 'results.json'}   report: {folder / 'report.html'}")
