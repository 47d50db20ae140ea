"""The part of llama.cpp's C interface that Atoll calls, for cffi in ABI mode.

Written against the headers of llama.cpp build b11549 (`include/llama.h`,
`ggml/include/ggml.h`, `ggml/include/ggml-backend.h`). Structs are passed by
value and must match that build exactly; `engine.library` checks it before
anything else is called.

To read C anew costs a process some 0.08 s of its start, so `engine.llama_abi`
holds what cffi makes of the declarations. After a change of them:

    python -m atoll.engine.cdef > llama_abi.py
    mv llama_abi.py src/atoll/engine
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

ABI_HEAD = '''"""The declarations of `engine.cdef` as cffi has read them; made by it, see there."""

# ruff: noqa
# fmt: off
'''

CDEF = """
typedef int32_t llama_pos;
typedef int32_t llama_token;
typedef int32_t llama_seq_id;
typedef struct llama_model llama_model;
typedef struct llama_context llama_context;
typedef struct llama_vocab llama_vocab;
typedef struct llama_memory_i * llama_memory_t;

typedef struct llama_batch {
    int32_t n_tokens;
    llama_token * token;
    float * embd;
    llama_pos * pos;
    int32_t * n_seq_id;
    llama_seq_id ** seq_id;
    int8_t * logits;
} llama_batch;

typedef struct ggml_tensor {
    int32_t type;
    void * buffer;
    int64_t ne[4];
    size_t nb[4];
    int32_t op;
    int32_t op_params[16];
    int32_t flags;
    struct ggml_tensor * src[10];
    struct ggml_tensor * view_src;
    size_t view_offs;
    void * data;
    char name[64];
    void * extra;
    char padding[8];
} ggml_tensor;

typedef struct llama_model_params {
    void ** devices;
    const void * tensor_buft_overrides;
    int32_t n_gpu_layers;
    int32_t split_mode;
    int32_t load_mode;
    int32_t lazy_mode;
    int32_t main_gpu;
    const float * tensor_split;
    void * progress_callback;
    void * progress_callback_user_data;
    const void * kv_overrides;
    bool vocab_only;
    bool check_tensors;
    bool use_extra_bufts;
    bool no_host;
    bool no_alloc;
    bool load_mtp;
} llama_model_params;

typedef struct llama_context_params {
    uint32_t n_ctx;
    uint32_t n_batch;
    uint32_t n_ubatch;
    uint32_t n_seq_max;
    uint32_t n_rs_seq;
    uint32_t n_outputs_max;
    uint32_t n_outputs_max_per_seq;
    int32_t n_threads;
    int32_t n_threads_batch;
    int32_t ctx_type;
    int32_t rope_scaling_type;
    int32_t pooling_type;
    int32_t attention_type;
    int32_t flash_attn_type;
    float rope_freq_base;
    float rope_freq_scale;
    float yarn_ext_factor;
    float yarn_attn_factor;
    float yarn_beta_fast;
    float yarn_beta_slow;
    uint32_t yarn_orig_ctx;
    float defrag_thold;
    void * cb_eval;
    void * cb_eval_user_data;
    int32_t type_k;
    int32_t type_v;
    size_t moe_cache_size;
    void * abort_callback;
    void * abort_callback_data;
    bool embeddings;
    bool offload_kqv;
    bool no_perf;
    bool op_offload;
    bool swa_full;
    bool kv_unified;
    void * samplers;
    size_t n_samplers;
    llama_context * ctx_other;
} llama_context_params;

typedef bool (*eval_callback)(uintptr_t tensor, bool ask, uintptr_t user_data);
typedef void (*log_callback)(int32_t level, const char * text, void * user_data);

const char * llama_version(void);
const char * ggml_version(void);
size_t ggml_tensor_overhead(void);
extern int LLAMA_BUILD_NUMBER;
void llama_backend_init(void);
void llama_log_set(log_callback callback, void * user_data);
llama_model_params llama_model_default_params(void);
llama_context_params llama_context_default_params(void);

llama_model * llama_model_load_from_file(const char * path, llama_model_params params);
void llama_model_free(llama_model * model);
const llama_vocab * llama_model_get_vocab(const llama_model * model);
int32_t llama_model_n_embd(const llama_model * model);
int32_t llama_model_n_layer(const llama_model * model);
int32_t llama_model_n_ctx_train(const llama_model * model);
int32_t llama_model_meta_val_str(const llama_model * model, const char * key, char * buf,
                                 size_t buf_size);
const char * llama_model_chat_template(const llama_model * model, const char * name);

llama_context * llama_init_from_model(llama_model * model, llama_context_params params);
void llama_free(llama_context * ctx);
llama_memory_t llama_get_memory(const llama_context * ctx);
uint32_t llama_n_ctx_seq(const llama_context * ctx);
void llama_set_n_threads(llama_context * ctx, int32_t n_threads, int32_t n_threads_batch);
int32_t llama_decode(llama_context * ctx, llama_batch batch);
float * llama_get_logits_ith(llama_context * ctx, int32_t i);
bool llama_memory_seq_rm(llama_memory_t mem, llama_seq_id seq, llama_pos p0, llama_pos p1);
llama_pos llama_memory_seq_pos_max(llama_memory_t mem, llama_seq_id seq);
size_t llama_state_seq_get_size(llama_context * ctx, llama_seq_id seq);
size_t llama_state_seq_get_data(llama_context * ctx, uint8_t * dst, size_t size, llama_seq_id seq);
size_t llama_state_seq_set_data(llama_context * ctx, const uint8_t * src, size_t size,
                                llama_seq_id seq);

int32_t llama_vocab_n_tokens(const llama_vocab * vocab);
llama_token llama_vocab_bos(const llama_vocab * vocab);
llama_token llama_vocab_eos(const llama_vocab * vocab);
bool llama_vocab_is_eog(const llama_vocab * vocab, llama_token token);
bool llama_vocab_is_control(const llama_vocab * vocab, llama_token token);
int32_t llama_vocab_get_attr(const llama_vocab * vocab, llama_token token);
bool llama_vocab_get_add_bos(const llama_vocab * vocab);
const char * llama_vocab_get_text(const llama_vocab * vocab, llama_token token);
int32_t llama_tokenize(const llama_vocab * vocab, const char * text, int32_t text_len,
                       llama_token * tokens, int32_t n_tokens_max,
                       bool add_special, bool parse_special);
int32_t llama_token_to_piece(const llama_vocab * vocab, llama_token token, char * buf,
                             int32_t length, int32_t lstrip, bool special);

typedef void (*ggml_to_float_t)(const void * x, float * y, int64_t k);
struct ggml_type_traits {
    const char * type_name;
    int64_t blck_size;
    int64_t blck_size_interleave;
    size_t type_size;
    bool is_quantized;
    ggml_to_float_t to_float;
    void * from_float_ref;
};
const struct ggml_type_traits * ggml_get_type_traits(int32_t type);
void ggml_backend_tensor_set(ggml_tensor * tensor, const void * data, size_t offset, size_t size);
void ggml_backend_tensor_get(const ggml_tensor * tensor, void * data, size_t offset, size_t size);
void * ggml_backend_load(const char * path);
void ggml_backend_load_all_from_path(const char * dir_path);
size_t ggml_backend_reg_count(void);
size_t ggml_backend_dev_count(void);
void * ggml_backend_dev_get(size_t index);
void * ggml_backend_dev_by_type(int32_t type);
const char * ggml_backend_dev_name(void * device);
const char * ggml_backend_dev_description(void * device);
int32_t ggml_backend_dev_type(void * device);
void ggml_backend_dev_memory(void * device, size_t * free, size_t * total);
"""


def abi_module() -> str:
    """The text of `engine.llama_abi`, made from the declarations."""
    from cffi import FFI  # noqa: PLC0415 - to read C is what a process that runs does without

    ffi = FFI()
    ffi.set_source("atoll.engine.llama_abi", None)
    ffi.cdef(CDEF)
    # It says on standard output what it does.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        made = Path(folder, "made.py")
        ffi.emit_python_code(str(made))
        return ABI_HEAD + made.read_text("utf-8").removeprefix("# auto-generated file\n")


if __name__ == "__main__":
    sys.stdout.write(abi_module())
