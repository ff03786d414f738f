"""What a sweep will take before it is begun: device-hours, memory, disk, and time by number of workers.

Costs are measured in a few batches or given, and the sweep's real schedule is played through with made-up
workers. Nothing here trains or heals.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
