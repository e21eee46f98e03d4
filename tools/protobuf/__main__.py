"""`make proto`: app/protobuf anew from proto/; where that would break what is published, the breaks and no change."""

import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools.documents import ROOT
from tools.protobuf.contract import broken
from tools.protobuf.generate import CODE, CONTRACT, compiled


def main() -> int:
    """Write app/protobuf and the contract anew where they differ; returns the exit code, 1: the contract is broken, and
    nothing is written. Raises CalledProcessError when protoc refuses.
    """
    code, contract = compiled()
    published = FileDescriptorSet.FromString(CONTRACT.read_bytes()) if CONTRACT.exists() else FileDescriptorSet()
    if lines := broken(published, contract):
        print("proto/ breaks what is published; what has to change becomes a new package (v2):", *lines, sep="\n  ")
        return 1
    CODE.mkdir(exist_ok=True)
    old = {path.name: path.read_text() for path in CODE.glob("*.py*") if path.is_file()}
    changed = [CODE / name for name, text in code.items() if old.get(name) != text]
    for path in changed:
        path.write_text(code[path.name])
    for name in old.keys() - code.keys():
        (CODE / name).unlink()
    if published != contract:
        CONTRACT.write_bytes(contract.SerializeToString(deterministic=True))
        changed.append(CONTRACT)
    for path in changed:
        print(f"rewritten: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
