"""A schedule for a human: every step with what ran, and what changed in the world; and the fewest faults that fail."""

import os
from collections.abc import Callable
from typing import Any

from tests.simulation.faults import Fault, draw_plan
from tests.simulation.life import Handle
from tests.simulation.parts import Parts
from tests.simulation.schedule import Outcome, Schedule, run
from tests.simulation.shape import draw_shape

_HERE = os.getcwd() + os.sep


def shrink(failed: Outcome, parts: type[Parts] = Parts) -> Outcome:
    """Leave out faults, one after another, as long as the schedule fails without them."""
    smallest = failed
    for fault in failed.plan:
        plan = tuple(one for one in smallest.plan if one is not fault)
        tried = run(failed.seed, plan=plan, shape=failed.shape, parts=parts)
        if tried.failure:
            smallest = tried
    return smallest


def report(failed: Outcome) -> str:
    """What a human needs of a failed schedule."""
    smallest = shrink(failed)
    lines = [f"\nBROKEN: {failed.failure}", f"  seed {failed.seed}, {failed.shape}"]
    lines += [f"  fault {number}: {fault}" for number, fault in enumerate(failed.plan)]
    if not failed.drawn:
        return "\n".join([*lines, f"  {replayed(failed)}"])
    without = [str(number) for number, fault in enumerate(failed.plan) if fault not in smallest.plan]
    command = f"make simulate SEED={failed.seed}" + (f" WITHOUT={','.join(without)}" if without else "")
    return "\n".join([*lines, f"  {smallest.failure}", f"  to see every step: {command}"])


def replayed(failed: Outcome) -> str:
    """The end of the journal of a schedule that no seed draws (tests.simulation.exhaustive)."""
    return "\n  ".join(f"{when:10.6f}  {who}: {what}" for when, who, what in failed.journal[-40:])


def replay(seed: str, without: set[int]) -> int:
    """Print every step of a schedule, and return 1 when it breaks a promise."""
    shape = draw_shape(seed)
    drawn = draw_plan(seed, shape.workers, shape.world)
    outcome = traced(seed, tuple(fault for number, fault in enumerate(drawn) if number not in without), print)
    print(f"\nseed {seed}: {shape}")
    for number, fault in enumerate(drawn):
        print(f"fault {number}: {fault}{' (left out)' if number in without else ''}")
    print(f"{outcome.steps} steps, {outcome.seconds:.1f} s of virtual time, trace {outcome.digest}")
    print(f"BROKEN: {outcome.failure}" if outcome.failure else "no promise was broken")
    return 1 if outcome.failure else 0


def traced(seed: str, plan: tuple[Fault, ...] | None, say: Callable[[str], None]) -> Outcome:
    """Run a schedule and say every step of it."""
    reported = 0

    def watch(handle: Handle, schedule: Schedule) -> None:
        nonlocal reported
        _say_journal(schedule.world.journal[reported:], say)
        reported = len(schedule.world.journal)
        life, loop = handle.life.name if handle.life else "servers", schedule.world.loop
        say(f"{loop.step:>6} {loop.now:10.6f}  [{life}] {_described(handle)}")

    outcome = run(seed, plan=plan, watch=watch)
    _say_journal(outcome.journal[reported:], say)
    return outcome


def _say_journal(entries: list[tuple[float, str, str]], say: Callable[[str], None]) -> None:
    for when, who, what in entries:
        say(f"     - {when:10.6f}  {who}: {what}")


def _described(handle: Handle) -> str:
    callback: Any = handle.callback
    task: Any = getattr(callback, "__self__", None)
    if task is not None and hasattr(task, "get_coro"):
        return _where(task.get_coro())
    name = getattr(callback, "__qualname__", None) or getattr(callback, "func", callback)
    first: Any = handle.args[0] if handle.args else None
    about = f" of {first.get_coro().__qualname__}" if hasattr(first, "get_coro") else ""
    return f"{getattr(name, '__qualname__', name)}{about}"


def _where(coro: Any) -> str:
    """The coroutine, and where the innermost one of ours that it awaits stands."""
    name, place = coro.__qualname__, ""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None and frame.f_code.co_filename.startswith(_HERE) and "site-packages" not in str(frame):
            place = f" at {frame.f_code.co_filename.removeprefix(_HERE)}:{frame.f_lineno}"
        coro = getattr(coro, "cr_await", None) or getattr(coro, "ag_await", None)
    return f"{name}{place}"
