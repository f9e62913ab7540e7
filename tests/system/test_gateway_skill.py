"""The skill on the real gateway: `install-skill` puts it there, OpenClaw says Ready, and the model has it."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_gateway import STEERED, RealGateway, unless_set
from real_gateway import real as real  # noqa: PLC0414 - a fixture

pytestmark = [pytest.mark.gateway, unless_set(STEERED)]

PROGRAM = Path(sys.executable).parent / "agent-daemon"


@pytest.fixture
def installed(real: RealGateway) -> Iterator[list[str]]:
    """Install it as the gateway's user would, and take it away in the end; what was said, by lines."""
    skill, link = real.state / "oc/skills/agent-vault", real.home / ".local/bin/agent-daemon"
    assert not skill.exists()
    assert not link.exists()
    try:
        yield subprocess.run(
            [PROGRAM, "install-skill"], env={"PATH": "/usr/bin:/bin", **real.env}, check=True, stdout=-1, text=True
        ).stdout.splitlines()
    finally:
        shutil.rmtree(skill, ignore_errors=True)
        link.unlink(missing_ok=True)


async def test_the_model_has_the_skill(real: RealGateway, installed: list[str]) -> None:
    """Once the remedy that is told is followed, OpenClaw says Ready and the prompt of a wake names the skill."""
    (remedy,) = [line for line in installed if "ln -sf" in line]
    subprocess.run(["sh", "-c", remedy], check=True)
    await real.start()  # what is told as `openclaw gateway restart`
    ready = await real.cli("skills", "info", "agent-vault")
    assert "Ready" in ready, ready
    assert "Visible to model: yes" in ready
    text = f"New Composio trigger (GMAIL_NEW_GMAIL_MESSAGE). job {uuid.uuid4()}."
    await real.wake(text)
    await real.prompts.hold([text])
    told = next(prompt for prompt in real.prompts.seen if text in prompt.text)
    assert "<name>agent-vault</name>" in told.text
    assert str(real.state / "oc/skills/agent-vault/SKILL.md") in told.text
