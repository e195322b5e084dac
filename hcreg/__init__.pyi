from hcreg import analyzers as analyzers
from hcreg import augmentation as augmentation
from hcreg import datasets as datasets
from hcreg import geometry as geometry
from hcreg import layers as layers
from hcreg import losses as losses
from hcreg import metrics as metrics
from hcreg import models as models
from hcreg import preprocessing as preprocessing
from hcreg import statistics as statistics
from hcreg import tuning as tuning
from hcreg.measurement import measure as measure

__version__: str
