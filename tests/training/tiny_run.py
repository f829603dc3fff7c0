"""A run small enough to repeat dozens of times, and a child process that dies or stops in the middle of one."""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fastkd.core import Interactions, Seeds
from fastkd.data.dataset import Dataset, IdMap
from fastkd.distillation.method import LossParts, Method, OptimizerGroup
from fastkd.evaluation import EvalConfig
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher, TopKLists
from fastkd.training import Callback, Trainer, TrainingConfig

USERS, ITEMS, DIM = 30, 41, 6
EVALUATION = EvalConfig(ks=(5, 10), metrics=("ndcg", "recall"))


def tiny_data(seed=0):
    """30 users, 41 items; 8 training and 2 validation items per user."""
    random = np.random.default_rng(seed)
    picks = np.stack([random.permutation(ITEMS)[:12] for _ in range(USERS)])
    users = np.arange(USERS)

    def part(a, b):
        return Interactions.from_pairs(
            np.repeat(users, b - a), picks[:, a:b].reshape(-1), num_users=USERS, num_items=ITEMS
        )

    return Dataset(part(0, 8), part(8, 10), part(10, 12), IdMap.identity(USERS), IdMap.identity(ITEMS))


class TinyStudent(Recommender):
    """Two embedding tables; with dropout it draws from torch's global generator, as models of others do."""

    def __init__(self, seed=0, dropout=0.0):
        super().__init__()
        random = Seeds(seed).torch("tiny")
        self.num_users, self.num_items, self.dim, self.dropout = USERS, ITEMS, DIM, dropout
        self.users = nn.Parameter(torch.randn(USERS, DIM, generator=random) * 0.1)
        self.items = nn.Parameter(torch.randn(ITEMS, DIM, generator=random) * 0.1)

    def tables(self):
        items = functional.dropout(self.items, self.dropout, self.training) if self.dropout else self.items
        return Tables(self.users, items)


class TinyTeacher(Teacher):
    num_users, num_items = USERS, ITEMS

    def lists(self, k, exclude):
        ids = torch.arange(k).repeat(USERS, 1)
        return TopKLists(ids, -ids.float())

    def fingerprint(self):
        return "tiny"


@dataclass(frozen=True)
class FakeConfig:
    weight: float = 0.1


class FakeMethod(Method):
    """Trains a projector in a group of its own towards a target taken from the student's past; on odd epochs it
    brings its own negatives, which depend on that past too."""

    name, paper = "fake", "none"

    def __init__(self, config=None, seeds=None):
        super().__init__(config or FakeConfig(), seeds or Seeds(0))
        self.refreshed, self.own = -1, False

    def prepare(self, teacher, student, train, *, epochs):
        self.train = train
        self.projector = nn.Linear(DIM, DIM)  # from torch's global generator
        self.target = np.zeros(DIM, dtype=np.float32)

    def begin_epoch(self, epoch, student):
        if self.refreshed == epoch:
            return
        self.refreshed = epoch
        self.target = (self.target + student.frozen_tables().items.mean(0).numpy()).astype(np.float32)

    def loss(self, step):
        out = self.projector(step.tables.user_vectors(step.batch.users))
        loss = (out - torch.from_numpy(self.target)).square().sum()
        return LossParts(self.config.weight * loss, {"hint": loss.detach()})

    def negatives(self, epoch):
        if epoch % 2 == 0:
            return None
        shift = int(abs(float(self.target.sum())) * 1e6) % 7
        random = self.seeds.numpy("fake", epoch, shift)
        return random.integers(0, ITEMS, size=(self.train.nnz, 2))

    def optimizer_groups(self):
        return [OptimizerGroup("projector", list(self.projector.parameters()), lr=0.02, weight_decay=0.0)]

    def modules(self):
        return {"projector": self.projector}

    def state_dict(self):
        return {"target": self.target, "refreshed": np.array(self.refreshed)}

    def load_state_dict(self, state):
        self.target, self.refreshed = np.array(state["target"]), int(state["refreshed"])


class Watch(Callback):
    """Notes where a session began and the step of its last checkpoint: a run that silently begins anew ends alike."""

    first_step = saved = None

    def on_start(self, run):
        self.first_step = run.first_step

    def on_checkpoint(self, folder, *, best):
        self.saved = int(folder.name.split("-")[1])


class StopAt(Watch):
    """Sends this process a signal once ``step`` steps are done."""

    def __init__(self, step, number=signal.SIGTERM):
        self.at, self.number = step, number

    def on_step(self, step, rows):
        if step == self.at:
            os.kill(os.getpid(), self.number)


def tiny_config(**changes):
    values = {"epochs": 4, "batch_size": 40, "negatives": 2, "lr": 0.05, "weight_decay": 1e-3, "eval_every": 2}
    return TrainingConfig(**{**values, "monitor": "ndcg@10", "seed": 3, "device": "cpu", **changes})


def tiny_trainer(folder, *, method=False, callbacks=(), student=None, data=None, **changes):
    return Trainer(
        student if student is not None else TinyStudent(dropout=0.2),
        data if data is not None else tiny_data(),
        FakeMethod() if method is True else (method or None),
        tiny_config(**changes),
        teacher=TinyTeacher(),
        evaluation=EVALUATION,
        folder=folder,
        callbacks=callbacks,
    )


CALLS = ("open", "write", "fsync", "mkdir", "rename", "replace", "symlink", "unlink", "rmdir", "ftruncate")


class Dead(BaseException):
    """Stands for the end of the process: once raised, no call into the file system gets through."""


def dying(call, *, kill):
    """Replace the file-system calls of ``os`` so that the n-th one ends the process; return (names called, undo).

    A write that is hit gets half of its bytes out. ``kill``: end it with SIGKILL, else raise :class:`Dead` from that
    call and every later one, so that nothing can be cleaned up.
    """
    seen, real = [], {name: getattr(os, name) for name in CALLS}

    def wrap(name):
        def called(*args, **options):
            if not call or len(seen) < call:
                seen.append(name)
            else:
                raise Dead(name)
            if len(seen) == call:
                if name == "write":
                    real["write"](args[0], args[1][: len(args[1]) // 2])
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Dead(name)
            return real[name](*args, **options)

        return called

    for name in CALLS:
        setattr(os, name, wrap(name))

    def undo():
        for name, function in real.items():
            setattr(os, name, function)

    return seen, undo


def crash_trainer(folder, watch=None):
    """A run that saves at every step, mid-epoch, after evaluation and at the end."""
    watching = () if watch is None else (watch,)
    options = {"epochs": 2, "batch_size": 80, "eval_every": 1, "checkpoint_every": 1}
    return tiny_trainer(folder, method=True, callbacks=watching, **options)


def main():
    """``tiny_run.py FOLDER N...``: for each N fork a child that is killed at its N-th file-system call, and one that
    resumes; print how the first ended and the error of the second."""
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None
    crash_trainer(None).fit()  # compiles what the children then share
    for call in map(int, sys.argv[2:]):
        folder = Path(sys.argv[1]) / str(call)
        endings = [_in_child(folder, call), _in_child(folder, 0)]
        sys.stdout.write(json.dumps([call, *endings]) + "\n")
        sys.stdout.flush()


def _in_child(folder, call):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        dying(call, kill=True)
        crash_trainer(folder).fit()
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
