"""What a supervisor that was killed leaves in the directory of a stack: its files in, findings and a step out."""

from app.doctor.finding import Finding, ok, warning
from app.doctor.fixes import Fix
from app.local.layout import Layout
from app.local.session import locked, supervisor_pid

AREA = "local stack"


def look(layout: Layout) -> list[Finding]:
    """Whether what runs of a stack of this machine is supervised, and whether its files speak of what runs; nothing
    where there is no stack.
    """
    if pid := supervisor_pid(layout):
        return [ok(AREA, f"{layout.root} is supervised by process {pid}")]
    if running := layout.left_running():
        what = f"{', '.join(sorted(running))} of {layout.root} run without a supervisor"
        return [warning(AREA, what, "iot-stream up takes them over, iot-stream down stops them")]
    if stale := _stale(layout):
        what = f"{', '.join(stale)} in {layout.root} speak of a stack that does not run: its supervisor was killed"
        return [warning(AREA, what, "start it: iot-stream up; or remove them: iot-stream doctor --fix")]
    return []


def fixes(layout: Layout) -> list[Fix]:
    """The step that removes such files; none while anything of the stack runs. Data and logs stay."""
    if supervisor_pid(layout) or layout.left_running() or not (stale := _stale(layout)):
        return []

    async def remove() -> None:
        with locked(layout):  # no `up` has come in between
            if not layout.left_running():
                layout.forget()

    return [Fix(f"remove {', '.join(stale)} of {layout.root}, whose stack does not run", remove)]


def _stale(layout: Layout) -> list[str]:
    return [path.name for path in (layout.env, layout.pids, layout.processes) if path.exists()]
