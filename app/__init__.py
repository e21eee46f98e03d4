"""iot-stream. `faust -A app worker` asks this package for `app`; importing anything else starts nothing."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.worker.bootstrap import app as app


def __getattr__(name: str) -> Any:
    """Build the Faust app on first use (PEP 562), so that `import app.core` needs neither Faust nor settings."""
    if name == "app":
        from app.runtime.allocator import quick_imports

        with quick_imports():
            from app.worker.bootstrap import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
