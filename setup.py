"""The build of the wheel: pyproject.toml says the rest. init.sql lies at the root, where people look for it, and goes
into the package, where an installed program finds it.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

INIT_SQL = Path("init.sql")
PLACE = Path("app/postgres/schema/init.sql")


class BuildWithSql(build_py):
    """The package's modules and data, and init.sql."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file(str(INIT_SQL), str(Path(self.build_lib) / PLACE))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        mine = [] if self.editable_mode else [str(Path(self.build_lib) / PLACE)]
        return [*super().get_outputs(include_bytecode), *mine]


setup(cmdclass={"build_py": BuildWithSql})
