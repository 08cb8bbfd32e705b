"""What holds for all tests: the compiler is trusted, so that which program serves depends on no process beside them."""

import os

from convolume.devices.opencl._guard import VARIABLE

os.environ[VARIABLE] = "1"
