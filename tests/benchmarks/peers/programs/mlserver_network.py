"""The network as a runtime of MLServer, which reads JSON requests of its own format from Kafka. Its decorator that decodes arguments
does not work with adaptive batching (1.7.1), so the codec is called here."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.benchmarks.network import Mlp


class Network(MLModel):  # type: ignore[misc]  # a class of a library without types
    async def load(self) -> bool:
        self.network = Mlp()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        logits = self.network(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[NumpyCodec.encode_output("logits", logits)])
