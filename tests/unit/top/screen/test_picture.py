"""The picture of the README is what the screen draws."""

from tools.picture import PICTURE, drawn


async def test_the_picture_is_up_to_date() -> None:
    assert PICTURE.read_text() == await drawn(), "docs/screen.svg is out of date with the screen: run `make docs`"
