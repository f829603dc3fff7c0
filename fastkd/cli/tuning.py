"""Tuning: as many trials for every student, judged on the validation split; no student's test split is opened.

    tuning/<student>/trials.json   what is searched, and a row for each finished trial
    tuning/<student>/trial-<n>/    run folder of the trial going on, and of the best one so far

Trial 0 is the student as configured. Trial n is a function of (seed, n, the rows before it), so a killed command goes
on with the trials that it would have made. The best one's run becomes that of its seed: it is not trained again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastkd.cli.config import differences
from fastkd.cli.folders import plain, student_folder
from fastkd.cli.records import finite
from fastkd.cli.runs import Room, Run, student_run, train_run
from fastkd.cli.sampler import check_installed, proposed
from fastkd.core.config import from_mapping, to_yaml
from fastkd.core.errors import CheckpointError, ConfigError, TrainingError
from fastkd.core.files import write_text
from fastkd.models import Teacher
from fastkd.presets import PLAIN, MethodConfig, StudyConfig, TunedConfig
from fastkd.training.folder import RunFolder

TUNING = "tuning"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One finished trial. ``value``: its best validation metric, None where training failed, as ``failed`` says."""

    number: int
    values: Mapping[str, Any]
    value: float | None = None
    failed: str | None = None
    best_epoch: int | None = None
    epochs_run: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trials:
    """``trials.json``: what the rows belong to, and the rows."""

    search: Mapping[str, Any]
    trials: tuple[Trial, ...] = field(default_factory=tuple)

    @property
    def best(self) -> Trial | None:
        """The first trial with the highest value, None where all failed."""
        done = [t for t in self.trials if t.value is not None]
        return max(done, key=lambda t: (t.value, -t.number)) if done else None


def tune_students(
    config: StudyConfig, folder: Path, room: Room, teacher: Teacher, names: Sequence[str], trials: int
) -> StudyConfig:
    """Tune each of ``names`` in order, ``trials`` trials each; return the study with what was chosen, also written."""
    (folder / TUNING).mkdir(exist_ok=True)
    with RunFolder(folder / TUNING).lock():
        for name in names:
            search = Search(config, folder, name, room, teacher)
            if name not in config.tuned or config.tuned[name].trials != trials:
                config = search.run(trials)
                write_text(folder / "study.yaml", to_yaml(config))
            search.adopt(config)
    return config


def check_tunable(config: StudyConfig, folder: Path, names: Sequence[str], trials: int) -> None:
    """Refuse what cannot be tuned: no Optuna, no validation, no space or a bad one, runs made with other values."""
    check_installed()
    for name in names:
        training, space = config.training_of(name, config.seeds[0]), config.search_of(name)
        if training.eval_every == 0:
            raise ConfigError(f"tuning reads the validation split, but {name} has training.eval_every=0")
        if not space:
            raise ConfigError(f"{name} has no search space; give it one: methods.{name}.search")
        for key, values in space.items():
            ends = [values["low"], values["high"]] if isinstance(values, Mapping) else values
            for value in ends:
                _with_values(config, name, {key: value})
        tuned = config.tuned.get(name)
        if (tuned is None or tuned.trials != trials) and any((folder / "students" / name).glob("seed*")):
            made = "as configured" if tuned is None else f"with what {tuned.trials} trials chose"
            raise ConfigError(f"{folder / 'students' / name} holds runs made {made}; tune in another --folder")


def own_values(config: StudyConfig, name: str) -> dict[str, Any]:
    """Return what a student has without tuning at the keys of its search space."""
    bare = dataclasses.replace(config, tuned={})
    parts = {"options": bare.options_of(name), "training": vars(bare.training_of(name, config.seeds[0]))}
    return {key: parts[key.partition(".")[0]][key.partition(".")[2]] for key in config.search_of(name)}


def read_trials(folder: Path, name: str) -> Trials | None:
    """Return the stored trials of a student, or None."""
    file = folder / TUNING / name / "trials.json"
    try:
        return from_mapping(Trials, json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged ({error}); delete {file.parent} to tune again") from error


class Search:
    """The trials of one student."""

    def __init__(self, config: StudyConfig, folder: Path, name: str, room: Room, teacher: Teacher) -> None:
        self.config = dataclasses.replace(config, tuned={k: v for k, v in config.tuned.items() if k != name})
        self.study, self.folder, self.name = folder, folder / TUNING / name, name
        self.room, self.teacher = room, teacher
        self.seed, self.space = config.seeds[0], config.search_of(name)
        self.monitor = config.training_of(name, self.seed).monitor

    def run(self, count: int) -> StudyConfig:
        """Make the trials that are missing of ``count``; return the study with the best values."""
        state = self._stored()
        own = own_values(self.config, self.name)
        for number in range(len(state.trials), count):
            values = own
            if number > 0:
                rows = [(t.values, t.value) for t in state.trials]
                values = proposed(self.space, own, rows, self.seed, f"tuning/{self.name}")
            trial = self._trial(number, values, count)
            state = dataclasses.replace(state, trials=(*state.trials, trial))
            self._keep(state)
            self.room.display.run_done()
        state = dataclasses.replace(state, trials=state.trials[:count])
        if state.best is None:
            raise TrainingError(f"every trial of {self.name} failed; the last one: {state.trials[-1].failed}")
        chosen = self._tuned(state.best, count)
        self.room.display.done(f"{self.name}  best of {count} trials: {self.monitor} {chosen.value:.4f}")
        return dataclasses.replace(self.config, tuned={**self.config.tuned, self.name: chosen})

    def adopt(self, config: StudyConfig) -> None:
        """Move the best trial's run to where the run of its seed belongs."""
        state, target = read_trials(self.study, self.name), student_folder(self.study, self.name, self.seed)
        best = dataclasses.replace(state, trials=state.trials[: config.tuned[self.name].trials]).best if state else None
        if best is not None and self._place(best.number).is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._place(best.number).rename(target)

    def _tuned(self, best: Trial, count: int) -> TunedConfig:
        assert best.value is not None
        return TunedConfig(
            trials=count, seed=self.seed, metric=self.monitor, value=best.value, values=dict(best.values)
        )

    def _stored(self) -> Trials:
        """Return the finished trials; those of another search are refused."""
        run = student_run(self.config, self.study, self.name, self.seed)
        search: dict[str, Any] = {"seed": self.seed, "space": dict(self.space), "student": run.info.definition}
        warm = run.info.definition.get("warm_start")
        if warm is not None:
            search["start"] = student_run(self.config, self.study, str(warm), self.seed).info.definition
        made = Trials(search=plain(search))
        stored = read_trials(self.study, self.name)
        if stored is None:
            return made
        changed = differences(plain(stored.search), made.search)
        if changed:
            said = "; ".join(changed)
            raise ConfigError(f"{self.folder} was made with other values: {said}. Delete it or give another --folder")
        return stored

    def _trial(self, number: int, values: Mapping[str, Any], count: int) -> Trial:
        """Train with ``values`` and judge by the validation split."""
        try:
            run = self._run(number, values, count)
            _, result = train_run(run, self.room, self.teacher)
        except (ConfigError, TrainingError) as error:
            self.room.display.say(f"{self.name} trial {number + 1} of {count}: failed, {error}")
            return Trial(number=number, values=dict(values), failed=str(error).partition(". The last good")[0])
        value = result.best_metrics[self.monitor]
        said = ", ".join(f"{key.partition('.')[2]} {_short(v)}" for key, v in values.items())
        self.room.display.done(f"{run.label}  valid {self.monitor} {value:.4f}  {said}")
        return Trial(
            number=number,
            values=dict(values),
            value=value,
            best_epoch=result.best_epoch,
            epochs_run=result.epochs_run,
            seconds=result.seconds,
        )

    def _run(self, number: int, values: Mapping[str, Any], count: int) -> Run:
        tried = _with_values(self.config, self.name, values)
        run = student_run(tried, self.study, self.name, self.seed)
        return dataclasses.replace(run, folder=self._place(number), part=f"trial {number + 1} of {count}")

    def _place(self, number: int) -> Path:
        return self.folder / f"trial-{number}"

    def _keep(self, state: Trials) -> None:
        """Write the rows, then delete every run but the best one's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        written = json.dumps(finite(dataclasses.asdict(state)), indent=1, allow_nan=False)
        write_text(self.folder / "trials.json", written + "\n")
        for trial in state.trials:
            if state.best is None or trial.number != state.best.number:
                shutil.rmtree(self._place(trial.number), ignore_errors=True)


def _with_values(config: StudyConfig, name: str, values: Mapping[str, Any]) -> StudyConfig:
    """Return the study in which student ``name`` has ``values``; impossible ones are refused."""
    tried = TunedConfig(trials=1, seed=config.seeds[0], metric="", value=math.nan, values=dict(values))
    return dataclasses.replace(config, tuned={**config.tuned, name: tried})


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_spaces(config: StudyConfig, names: Sequence[str]) -> StudyConfig:
    """Return the study with the search spaces of ``names`` written out."""
    spelled = {
        name: dataclasses.replace(config.methods.get(name, MethodConfig()), search=dict(config.search_of(name)))
        for name in names
    }
    plain_first = {PLAIN: spelled[PLAIN]} if PLAIN in spelled else {}
    return dataclasses.replace(config, methods={**plain_first, **config.methods, **spelled})
