"""Image encoders: uint8 images to patch features [*, P, D]."""

from ibrl_torchrl.modules.encoders.cameras import CameraEncoder, Fusion
from ibrl_torchrl.modules.encoders.convolutions import DrQConvolutions
from ibrl_torchrl.modules.encoders.resnet import ResNet18, ResNet96
from ibrl_torchrl.modules.encoders.vit import PatchEmbedding, ViT

__all__ = [
    "CameraEncoder",
    "DrQConvolutions",
    "Fusion",
    "PatchEmbedding",
    "ResNet18",
    "ResNet96",
    "ViT",
]
