"""A window in which pictures follow each other, by pygame.

pygame is an extra and is imported when a window is opened. It shows one window at a time: who opens
a second one takes the first one's place.
"""

import os
import sys
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from groundling.envs.errors import UserError

TITLE = "groundling"
NO_DISPLAY = (
    "no display to open a window on; expected a desktop (or SDL_VIDEODRIVER=dummy, for tests)"
)
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
"""On Linux one of these variables says where to draw."""


class Window:
    """Shows pictures at a steady pace, until it is closed by us or by whoever looks at it.

    Closing it stops no walk: what is shown afterwards is shown to nobody.

    Args:
        frames_per_second: the fastest pace at which `show` returns.

    Raises:
        UserError: pygame is not installed, or there is no display.
    """

    _shown: ClassVar["Window | None"] = None

    def __init__(self, frames_per_second: float) -> None:
        self.frames_per_second = frames_per_second
        self._pygame = _import_pygame()
        _start_display(self._pygame)
        self._pygame.display.set_caption(TITLE)
        self._clock = self._pygame.time.Clock()
        self._screen: Any = None
        Window._shown = self

    @property
    def is_open(self) -> bool:
        """Whether anybody can see what is shown."""
        return Window._shown is self

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture [height, width, 3], then wait until the next one is due."""
        if not self.is_open:
            return
        height, width = picture.shape[:2]
        if self._screen is None or self._screen.get_size() != (width, height):
            self._screen = self._pygame.display.set_mode((width, height))
        # pygame counts pixels from the left first.
        self._pygame.surfarray.blit_array(self._screen, picture.swapaxes(0, 1))
        self._pygame.display.flip()
        self._clock.tick(self.frames_per_second)
        self._obey()

    def close(self) -> None:
        """Close the window. Doing so twice is harmless."""
        if self.is_open:
            self._pygame.display.quit()
            Window._shown = None

    def _obey(self) -> None:
        """Handle events, so that the window answers; its button, Escape and Q close it."""
        pygame = self._pygame
        for event in pygame.event.get():
            key = event.key if event.type == pygame.KEYDOWN else None
            if event.type == pygame.QUIT or key in (pygame.K_ESCAPE, pygame.K_q):
                self.close()
                return


def _import_pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise UserError(
            'a window takes pygame, which is not installed; expected `pip install "groundling'
            '[watch]"`'
        ) from error
    return pygame


def _start_display(pygame: Any) -> None:
    if sys.platform == "linux" and not any(name in os.environ for name in DISPLAYS):
        raise UserError(NO_DISPLAY)
    try:
        pygame.display.init()
    except pygame.error as error:
        raise UserError(f"{NO_DISPLAY} ({error})") from error
    # If the display does not answer SDL may draw off the screen, which nobody would see.
    if pygame.display.get_driver() == "offscreen" and "SDL_VIDEODRIVER" not in os.environ:
        pygame.display.quit()
        raise UserError(NO_DISPLAY)
