"""A GGUF file's weights and tokenizer as a Hugging Face folder. Usage: unpack_gguf.py FILE.gguf FOLDER"""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

source, folder = Path(sys.argv[1]), sys.argv[2]
where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name, "trust_remote_code": False}
AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
# Without `dequantize` the weights stay in GGUF's blocks, which cannot be saved.
model = AutoModelForCausalLM.from_pretrained(**where, quantization_config=GgufConfig(dequantize=True))
model.save_pretrained(folder)
