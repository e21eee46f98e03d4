"""Two versions of the contract -> what in the newer one breaks those who speak the older one.

Bytes that were good stay good and mean the same: a message, a field's number, name, type and presence never change.
What goes leaves its number and its name reserved, for ever, so that neither is given to something else.
"""

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_Field = FieldDescriptorProto


def broken(published: FileDescriptorSet, current: FileDescriptorSet) -> list[str]:
    """A line for each promise of `published` that `current` does not keep; empty when it keeps them all."""
    old, new = _messages(published), _messages(current)
    lines = [f"{name}: the message is gone" for name in old if name not in new]
    for name in old.keys() & new.keys():
        lines += _fields(name, old[name], new[name])
    old_enums, new_enums = _enums(published), _enums(current)
    for enum in old_enums:
        lines += _values(enum, old_enums[enum], new_enums.get(enum))
    services = {f"{one.package}.{service.name}": service for one in current.file for service in one.service}
    for file in published.file:
        for service in file.service:
            full = f"{file.package}.{service.name}"
            lines += _methods(full, service, services.get(full))
    return sorted(lines)


def _fields(message: str, old: DescriptorProto, new: DescriptorProto) -> Iterator[str]:
    fields = {field.number: field for field in new.field}
    for field in old.field:
        now = fields.get(field.number)
        where = f"{message}.{field.name} = {field.number}"
        if now is None:
            if not (_reserves(new, field.number) and field.name in new.reserved_name):
                yield f'{where}: the field is gone; reserve {field.number} and "{field.name}"'
        elif _meaning(old, field) != _meaning(new, now):
            yield f"{where}: was {_shown(old, field)}, is {_shown(new, now)}"
    for span in old.reserved_range:
        for number in range(span.start, span.end):
            if not _reserves(new, number):
                yield f"{message}: {number} is of a field that is gone, and no longer reserved"
    for name in old.reserved_name:
        if name not in new.reserved_name:
            yield f'{message}: "{name}" is of a field that is gone, and no longer reserved'


def _values(enum: str, old: EnumDescriptorProto, new: EnumDescriptorProto | None) -> Iterator[str]:
    if new is None:
        yield f"{enum}: the enum is gone"
        return
    values = {value.number: value.name for value in new.value}
    for value in old.value:
        if values.get(value.number) != value.name:
            yield f"{enum}.{value.name} = {value.number}: is {values.get(value.number, 'gone')}"


def _methods(full: str, old: ServiceDescriptorProto, new: ServiceDescriptorProto | None) -> Iterator[str]:
    methods = {method.name: method for method in new.method} if new else {}
    for method in old.method:
        if (now := methods.get(method.name)) is None:
            yield f"{full}.{method.name}: the method is gone"
        elif (method.input_type, method.output_type, method.client_streaming, method.server_streaming) != (
            now.input_type,
            now.output_type,
            now.client_streaming,
            now.server_streaming,
        ):
            yield f"{full}.{method.name}: takes or gives something else"


def _reserves(message: DescriptorProto, number: int) -> bool:
    return any(span.start <= number < span.end for span in message.reserved_range)


def _meaning(message: DescriptorProto, field: _Field) -> tuple[object, ...]:
    """What of a field is promised; a oneof by its name, as their order is nobody's."""
    group = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
    return field.name, field.type, field.type_name, field.label, field.proto3_optional, group, field.options.packed


def _shown(message: DescriptorProto, field: _Field) -> str:
    kind = field.type_name.lstrip(".") or _Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    presence = "optional " if field.proto3_optional else ""
    repeated = "repeated " if field.label == _Field.LABEL_REPEATED else ""
    return f"{presence}{repeated}{kind} {field.name}"


def _messages(files: FileDescriptorSet) -> Mapping[str, DescriptorProto]:
    found: dict[str, DescriptorProto] = {}

    def add(prefix: str, message: DescriptorProto) -> None:
        found[name := f"{prefix}.{message.name}"] = message
        for nested in message.nested_type:
            add(name, nested)

    for file in files.file:
        for message in file.message_type:
            add(file.package, message)
    return found


def _enums(files: FileDescriptorSet) -> Mapping[str, EnumDescriptorProto]:
    found = {f"{file.package}.{enum.name}": enum for file in files.file for enum in file.enum_type}
    for name, message in _messages(files).items():
        found |= {f"{name}.{enum.name}": enum for enum in message.enum_type}
    return found
