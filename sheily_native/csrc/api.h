/* The boundary between Python and llama.cpp: plain C declarations, read twice.
 *
 * cffi reads this file as its cdef, shim.h includes it inside extern "C". So: no #include, no
 * #ifdef, no extern "C", and no type that is not built into C or declared here.
 *
 * Every function that can fail returns an sn_status (0 = SN_OK) and leaves a sentence in
 * sn_last_error() for the calling thread.
 */

enum sn_status {
    SN_OK = 0,
    SN_INVALID_ARGUMENT = 1, /* the caller passed something out of range */
    SN_OUT_OF_MEMORY = 2,
    SN_LOAD_FAILED = 3, /* the model file is missing, broken or not supported */
    SN_KV_FULL = 4,     /* no room for the batch in the KV cache; nothing was computed */
    SN_ABORTED = 5,     /* sn_context_abort() or sn_progress_cancel() stopped the call */
    SN_DECODE_FAILED = 6,
    SN_BUFFER_TOO_SMALL = 7, /* the needed size is in the output count */
    SN_INTERNAL = 8
};

enum sn_kv_type { SN_KV_F16 = 0, SN_KV_Q8_0 = 1 };

typedef struct sn_model sn_model;
typedef struct sn_context sn_context;
typedef struct sn_sampler sn_sampler;
typedef struct sn_progress sn_progress;

typedef struct sn_model_params {
    int32_t use_mmap;
    int32_t use_extra_buffers; /* 0: stock kernels, no repacked weights */
    int32_t vocab_only;
    const char *kernel; /* a kernel's name, "off" for the stock ones, "auto" */
    int32_t n_threads;  /* to repack weights while loading */
} sn_model_params;

typedef struct sn_model_info {
    int32_t n_vocab;
    int32_t n_ctx_train;
    int32_t n_embd;
    int32_t n_layer;
    int32_t n_head;
    int32_t n_head_kv;
    int32_t token_bos; /* -1: the vocabulary has none */
    int32_t token_eos;
    int32_t token_eot;
    int32_t add_bos;
    int32_t has_decoder; /* 0: an encoder-only model, which cannot generate */
    int32_t is_recurrent;
    uint64_t n_params;
    uint64_t n_bytes; /* of all tensors */
    int32_t kernel;   /* number of the kernel that Q8_0 weights were repacked for, -1: none */
} sn_model_info;

typedef struct sn_context_params {
    int32_t n_ctx;         /* KV cells, shared by all sequences */
    int32_t n_batch;       /* most tokens in one step */
    int32_t n_ubatch;      /* most tokens in one pass over the weights */
    int32_t n_seq_max;     /* sequences, 1 to 256 */
    int32_t n_outputs_max; /* most logits rows in one step */
    int32_t n_threads;
    int32_t flash_attention; /* -1 automatic, 0 off, 1 on */
    int32_t kv_type;         /* an sn_kv_type */
} sn_context_params;

typedef struct sn_context_info {
    int32_t n_ctx;
    int32_t n_batch;
    int32_t n_seq_max;
    int32_t n_outputs_max;
    uint64_t kv_bytes;
} sn_context_info;

typedef struct sn_sampling {
    float temperature;       /* 0: greedy */
    int32_t top_k;           /* 0: off */
    float top_p;             /* 1: off */
    float min_p;             /* 0: off */
    float repeat_penalty;    /* 1: off; over prompt and generated tokens */
    float frequency_penalty; /* over generated tokens */
    float presence_penalty;  /* over generated tokens */
    uint64_t seed;           /* every draw is a function of (seed, how many tokens were drawn) */
    int32_t n_bias;
    const int32_t *bias_tokens;
    const float *bias_values;
} sn_sampling;

/* One sequence whose next token is wanted. The logits row of batch token `index` is sampled; then,
 * while the sampled token equals the draft that follows it in the batch, the next row, up to
 * n_draft times: 1 to n_draft + 1 tokens come out. */
typedef struct sn_row {
    int32_t index;
    int32_t n_draft;
    /* NULL: no token is sampled, the logits row is kept for sn_context_logits */
    sn_sampler *sampler;
    /* NULL, or (n_draft + 1) rows of (n_vocab + 31) / 32 words; bit set: allowed */
    const uint32_t *mask;
    /* -1: no logprobs; 0 to 20: the sampled token's and that many of the best */
    int32_t top_logprobs;
} sn_row;

/* What came out of one row. Arrays are the caller's; capacity n_draft + 1 tokens, and as many times
 * top_logprobs for the alternatives. logprobs are natural logarithms of the model's own
 * distribution, before temperature, penalties, bias and mask. */
typedef struct sn_sampled {
    int32_t n_tokens;
    int32_t *tokens;
    float *logprobs;
    int32_t *top_tokens;
    float *top_logprobs;
} sn_sampled;

typedef struct sn_step {
    int32_t n_tokens;
    const int32_t *tokens;
    /* the sequence of each token; its position is the sequence's length */
    const int32_t *sequences;
    int32_t n_rows;
    const sn_row *rows;
    sn_sampled *sampled; /* n_rows of them */
} sn_step;

/* library */
const char *sn_last_error(void);
void sn_set_log_level(int32_t level); /* 0 nothing, 1 errors, 2 + warnings, 3 + info, 4 + debug */

/* kernels: for products with Q8_0 weights and for attention, best first, numbered from 0 */
int32_t sn_kernel_count(void);
const char *sn_kernel_name(int32_t kernel);
int32_t sn_kernel_runs_here(int32_t kernel);
/* One product as a graph of llama.cpp's: n_tokens rows of floats times n_rows rows of Q8_0 blocks
 * (34 bytes for 32 columns) gives n_tokens rows of n_rows floats. kernel -1: the stock one. */
int sn_kernel_multiply(int32_t kernel, const uint8_t *weights, int64_t n_rows, int64_t n_columns,
                       const float *tokens, int64_t n_tokens, int32_t n_threads, float *out);
/* One attention as a graph of llama.cpp's. q: tokens x heads x width floats; k and v: cells x
 * kv_heads x width, half precision or Q8_0 blocks, as kv_type says; mask: tokens x cells in half
 * precision, added to the scores; out: as q. */
typedef struct sn_attention {
    int32_t n_tokens;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t n_cells;
    int32_t width;
    int32_t kv_type; /* an sn_kv_type */
    float scale;
    const float *q;
    const uint8_t *k;
    const uint8_t *v;
    const uint16_t *mask;
    float *out;
} sn_attention;
int sn_kernel_attend(int32_t kernel, const sn_attention *attention, int32_t n_threads);

/* the bounds of this machine: the best of the runs that fit into `seconds` */
int sn_measure_bandwidth(int32_t n_threads, uint64_t n_bytes, double seconds,
                         double *bytes_a_second);
int sn_measure_peak(int32_t kernel, int32_t n_threads, double seconds,
                    double *multiply_adds_a_second);

/* progress of one load: any thread may use it meanwhile; freed when the load has returned */
int sn_progress_new(sn_progress **out);
void sn_progress_free(sn_progress *progress);
float sn_progress_fraction(const sn_progress *progress); /* 0 to 1 */
void sn_progress_cancel(sn_progress *progress);

/* model: may be shared by threads once loaded */
int sn_model_load(const char *path, const sn_model_params *params, sn_progress *progress,
                  sn_model **out);
void sn_model_free(sn_model *model);
void sn_model_info_get(const sn_model *model, sn_model_info *info);
int32_t sn_model_metadata_count(const sn_model *model);
/* Length of the string, which is cut to size - 1 bytes and ended by a zero; -1: no such entry. */
int32_t sn_model_metadata_key(const sn_model *model, int32_t i, char *buffer, int32_t size);
int32_t sn_model_metadata_value(const sn_model *model, int32_t i, char *buffer, int32_t size);
int sn_tokenize(const sn_model *model, const char *text, int32_t n_bytes, int32_t special,
                int32_t *tokens, int32_t capacity, int32_t *count);
int sn_piece(const sn_model *model, int32_t token, int32_t special, char *buffer, int32_t size,
             int32_t *count);
int32_t sn_is_end(const sn_model *model, int32_t token);
int32_t sn_is_control(const sn_model *model, int32_t token);
int32_t sn_is_user_defined(const sn_model *model, int32_t token);

/* sampler: one a sequence, used by one thread at a time */
int sn_sampler_new(int32_t n_vocab, const sn_sampling *params, const int32_t *prompt,
                   int32_t n_prompt, sn_sampler **out);
void sn_sampler_free(sn_sampler *sampler);
/* Samples a row of n_vocab logits that the caller holds, as a step would. */
int sn_sampler_sample(sn_sampler *sampler, const float *logits, const uint32_t *mask,
                      int32_t top_logprobs, sn_sampled *sampled);

/* context: one thread at a time; abort and heartbeat from any */
int sn_context_new(sn_model *model, const sn_context_params *params, sn_context **out);
void sn_context_free(sn_context *context);
void sn_context_info_get(const sn_context *context, sn_context_info *info);
int sn_context_step(sn_context *context, const sn_step *step);
/* n_vocab logits of a batch token of the last step; NULL where the step asked for none. */
const float *sn_context_logits(sn_context *context, int32_t index);
int32_t sn_kv_length(const sn_context *context, int32_t sequence);
int sn_kv_truncate(sn_context *context, int32_t sequence, int32_t length);
/* Replaces the cells [begin, end) of `to` by those of `from`; both own them then. */
int sn_kv_share(sn_context *context, int32_t from, int32_t to, int32_t begin, int32_t end);
void sn_kv_clear(sn_context *context);
/* Bytes of n cells as sn_kv_save has them. */
uint64_t sn_kv_saved_size(const sn_context *context, int32_t n_cells);
/* The cells [begin, end) of a sequence as bytes, of which there must be sn_kv_saved_size; rows
 * carry their positions, and so are good there alone. `scratch` is a sequence without cells, which
 * it has again behind the call. */
int sn_kv_save(sn_context *context, int32_t sequence, int32_t scratch, int32_t begin, int32_t end,
               uint8_t *out, uint64_t size);
/* Takes those of the cells that lie behind the end of the sequence. SN_KV_FULL where there are not
 * end - begin cells free. */
int sn_kv_load(sn_context *context, int32_t sequence, int32_t scratch, int32_t begin, int32_t end,
               const uint8_t *data, uint64_t size);
void sn_context_abort(sn_context *context, int32_t on);
/* CLOCK_MONOTONIC nanoseconds of the last sign of life from inside a step; 0 outside of one. */
int64_t sn_context_heartbeat(const sn_context *context);
