// The table of every key. Long because it is a list: a row per key, and nothing but rows.
#include "trainer/config/schema.h"

namespace terroir {
namespace {

// Of one dimension: beyond any model, small enough that the product of two fits 64 bits by far.
constexpr double kMaxSize = 1 << 24;
constexpr double kMaxCount = 1e9;  // steps, intervals
constexpr double kMaxRanks = 1 << 20;

constexpr ValueRange kSize{1, kMaxSize};
constexpr ValueRange kCount{0, kMaxCount};
constexpr ValueRange kPositive{.min = 0, .above_min = true};

// The field of a key without placeholders.
#define TERROIR_FIELD(member) [](Config& config, const Captures&) -> Field { return &config.member; }

DataStageSection& stage_at(Config& config, std::size_t index) {
  if (config.data.stages.size() <= index) config.data.stages.resize(index + 1);
  return config.data.stages[index];
}

std::vector<ConfigKey> make_keys() {
  return {
      {.path = "device",
       .field = TERROIR_FIELD(device),
       .meaning = "Where to compute; `auto` takes CUDA where it is usable.",
       .choices = {"auto", "cpu", "cuda"}},
      {.path = "deterministic",
       .field = TERROIR_FIELD(deterministic),
       .meaning =
           "Only kernels that give the same bits at every run. On GPUs this costs: cuDNN's attention "
           "backward may take `2 x heads x sequence_length^2` bytes of workspace (512 MiB for 16 heads "
           "of 4,096 tokens), for each document where several are packed into a row; what would need "
           "over 1 GiB our own kernels compute. `false` lets cuDNN add in any order, in little memory: "
           "gradients then differ in rounding from run to run. On CPUs, and without cuDNN, it makes no "
           "difference."},
      {.path = "tokenizer",
       .field = TERROIR_FIELD(tokenizer),
       .meaning = "Path of `tokenizer.json`, the one the shards were built with.",
       .required = true},
      {.path = "init_from",
       .field = TERROIR_FIELD(init_from),
       .meaning = "Checkpoint or run folder of the same model whose weights a new run starts from; null: "
                  "fresh weights.",
       .nullable = true},

      {.path = "run.name",
       .field = TERROIR_FIELD(run.name),
       .meaning = "Name of the run and of its folder: letters, digits, `-`, `_` and `.`.",
       .required = true},
      {.path = "run.dir", .field = TERROIR_FIELD(run.dir), .meaning = "Folder that holds run folders."},
      {.path = "run.seed",
       .field = TERROIR_FIELD(run.seed),
       .meaning = "Seed of the initial weights and of the data order."},

      {.path = "model.model_type",
       .field = TERROIR_FIELD(model.model_type),
       .meaning = "`qwen2` adds biases to q, k and v; `qwen3` adds RMSNorm to each q and k head.",
       .choices = {"llama", "qwen2", "qwen3"}},
      {.path = "model.vocab_size",
       .field = [](Config& config, const Captures&) -> Field {
         return IntegerOrFromTokenizer{&config.model.vocab_size, &config.vocab_size_from_tokenizer};
       },
       .meaning = "Rows of the embedding; at least the tokenizer's size.",
       .range = kSize},
      {.path = "model.hidden_size",
       .field = TERROIR_FIELD(model.hidden_size),
       .meaning = "Width of the residual stream.",
       .range = kSize},
      {.path = "model.intermediate_size",
       .field = TERROIR_FIELD(model.intermediate_size),
       .meaning = "Width of the SwiGLU block.",
       .range = kSize},
      {.path = "model.num_hidden_layers",
       .field = TERROIR_FIELD(model.num_hidden_layers),
       .meaning = "Number of decoder layers.",
       .range = {1, 1 << 16}},
      {.path = "model.num_attention_heads",
       .field = TERROIR_FIELD(model.num_attention_heads),
       .meaning = "Query heads; a multiple of `parallel.tensor`.",
       .range = {1, 1 << 16}},
      {.path = "model.num_key_value_heads",
       .field = TERROIR_FIELD(model.num_key_value_heads),
       .meaning = "Key and value heads; divides the query heads.",
       .range = {1, 1 << 16}},
      {.path = "model.head_dim",
       .field = TERROIR_FIELD(model.head_dim),
       .meaning = "Size of one head, even; 0: `hidden_size / num_attention_heads`.",
       .range = {0, 1 << 16}},
      {.path = "model.rms_norm_eps",
       .field = TERROIR_FIELD(model.rms_norm_eps),
       .meaning = "Added to the mean square inside RMSNorm.",
       .range = kPositive},
      {.path = "model.rope_theta",
       .field = TERROIR_FIELD(model.rope_theta),
       .meaning = "Base of the rotary embedding's frequencies.",
       .range = kPositive},
      {.path = "model.rope_scaling.rope_type",
       .field = TERROIR_FIELD(model.rope_scaling.rope_type),
       .meaning = "How frequencies are scaled; `default`: not.",
       .choices = {"default", "llama3"},
       .planned = {"yarn", "linear", "dynamic", "longrope"}},
      {.path = "model.rope_scaling.factor",
       .field = TERROIR_FIELD(model.rope_scaling.factor),
       .meaning = "Low frequencies are divided by it.",
       .range = {.min = 1}},
      {.path = "model.rope_scaling.low_freq_factor",
       .field = TERROIR_FIELD(model.rope_scaling.low_freq_factor),
       .meaning = "Waves longer than the original context divided by this are fully scaled.",
       .range = kPositive},
      {.path = "model.rope_scaling.high_freq_factor",
       .field = TERROIR_FIELD(model.rope_scaling.high_freq_factor),
       .meaning = "Waves shorter than the original context divided by this are kept.",
       .range = kPositive},
      {.path = "model.rope_scaling.original_max_position_embeddings",
       .field = TERROIR_FIELD(model.rope_scaling.original_max_position_embeddings),
       .meaning = "Context length before scaling.",
       .range = kSize},
      {.path = "model.max_position_embeddings",
       .field = TERROIR_FIELD(model.max_position_embeddings),
       .meaning = "Longest context, recorded for export; 0: `data.sequence_length`.",
       .range = {0, kMaxSize}},
      {.path = "model.tie_word_embeddings",
       .field = TERROIR_FIELD(model.tie_word_embeddings),
       .meaning = "The output projection is the embedding."},
      {.path = "model.initializer_range",
       .field = TERROIR_FIELD(model.initializer_range),
       .meaning = "Standard deviation of the initial weights.",
       .range = kPositive},

      {.path = "data.sequence_length",
       .field = TERROIR_FIELD(data.sequence_length),
       .meaning = "Tokens in one training sequence.",
       .range = kSize},
      {.path = "data.stages.N.sources.NAME",
       .field = [](Config& config, const Captures& at) -> Field {
         return &stage_at(config, at.index).sources[at.name];
       },
       .meaning = "Weight of a source in the mixture; weights are divided by their sum.",
       .range = {.min = 0}},
      {.path = "data.sources.NAME.shards",
       .field = [](Config& config, const Captures& at) -> Field {
         return &config.data.sources[at.name].shards;
       },
       .meaning = "Glob of the source's HDF5 shards, such as `data/ko/*.h5`.",
       .required = true},
      {.path = "data.sources.NAME.language",
       .field = [](Config& config, const Captures& at) -> Field {
         return &config.data.sources[at.name].language;
       },
       .meaning = "Language tag (BCP 47), for reports and the model card; null: not said.",
       .nullable = true},
      {.path = "data.sources.NAME.license",
       .field = [](Config& config, const Captures& at) -> Field {
         return &config.data.sources[at.name].license;
       },
       .meaning = "SPDX licence of the text, for reports and the model card; null: not said.",
       .nullable = true},

      {.path = "parallel.tensor",
       .field = TERROIR_FIELD(parallel.tensor),
       .meaning = "Ranks that share each layer's matrices.",
       .range = {1, kMaxRanks}},
      {.path = "parallel.pipeline",
       .field = TERROIR_FIELD(parallel.pipeline),
       .meaning = "Stages that share the layers.",
       .range = {1, kMaxRanks}},
      {.path = "parallel.context",
       .field = TERROIR_FIELD(parallel.context),
       .meaning = "Ranks that share each sequence.",
       .range = {1, kMaxRanks},
       .built = {1, 1}},
      {.path = "parallel.schedule",
       .field = TERROIR_FIELD(parallel.schedule),
       .meaning = "Order of the pipeline's forwards and backwards.",
       .choices = {"1f1b", "gpipe"},
       .planned = {"interleaved_1f1b", "zero_bubble"}},
      {.path = "parallel.zero",
       .field = TERROIR_FIELD(parallel.zero),
       .meaning = "What data ranks shard: 1: the optimizer's state.",
       .range = {0, 3},
       .built = {1, 1}},
      {.path = "parallel.sequence_parallel",
       .field = TERROIR_FIELD(parallel.sequence_parallel),
       .meaning = "Between layers, tensor ranks hold a share of the tokens instead of all."},
      {.path = "parallel.layers_per_stage",
       .field = TERROIR_FIELD(parallel.layers_per_stage),
       .meaning = "Layers of each stage, such as `[3, 5]`; empty: as even as possible.",
       .range = {1, 1 << 16}},
      {.path = "parallel.transport",
       .field = TERROIR_FIELD(parallel.transport),
       .meaning = "What carries tensors between GPUs: `nccl` (one rank a GPU), or `host`: copies through "
                  "host memory, "
                  "slow, ranks may share a GPU. `auto`: nccl. On the CPU it is always the host's.",
       .choices = {"auto", "nccl", "host"}},
      {.path = "parallel.timeout_s",
       .field = TERROIR_FIELD(parallel.timeout_s),
       .meaning = "Seconds one collective may take before every rank ends with exit code 7.",
       .range = kPositive},
      {.path = "parallel.bucket_mib",
       .field = TERROIR_FIELD(parallel.bucket_mib),
       .meaning = "Gradients are reduced in buckets of about this many MiB.",
       .range = {.min = 0, .max = 1 << 20, .above_min = true}},

      {.path = "train.steps",
       .field = TERROIR_FIELD(train.steps),
       .meaning = "Optimizer steps of the whole run.",
       .range = {1, kMaxCount},
       .required = true},
      {.path = "train.global_batch_size",
       .field = TERROIR_FIELD(train.global_batch_size),
       .meaning = "Sequences in one step, over all ranks.",
       .range = kSize},
      {.path = "train.micro_batch_size",
       .field = TERROIR_FIELD(train.micro_batch_size),
       .meaning = "Sequences in one forward pass; `micro x data ranks` divides the global batch.",
       .range = kSize},
      {.path = "train.recompute",
       .field = TERROIR_FIELD(train.recompute),
       .meaning = "`full` computes each layer's activations again in the backward pass, to save memory.",
       .choices = {"none", "full"},
       .planned = {"selective"}},
      {.path = "train.attention",
       .field = TERROIR_FIELD(train.attention),
       .meaning =
           "Whose attention kernels GPUs take. `auto`: cuDNN's for bf16 where it has them and they "
           "need at most 1 GiB of workspace, else our own; `own`: always these; `cudnn`: as `auto` but "
           "whatever workspace they need, and refused where cuDNN cannot compute rows of one document.",
       .choices = {"auto", "cudnn", "own"}},
      {.path = "train.threads",
       .field = TERROIR_FIELD(train.threads),
       .meaning = "CPU threads of a rank; 0: its share of the cores it may use.",
       .range = {0, 1 << 12}},
      {.path = "train.gemm_candidates",
       .field = TERROIR_FIELD(train.gemm_candidates),
       .meaning = "On CUDA, how many of cuBLASLt's algorithms are timed for each matrix product before the "
                  "first step; ranks agree on the fastest, and checkpoints keep it. 1: its first suggestion, "
                  "nothing is timed, so that two new runs give the same bits.",
       .range = {1, 64}},

      {.path = "precision.compute",
       .field = TERROIR_FIELD(precision.compute),
       .meaning =
           "Weights and activations as layers see them; sums inside kernels are f32. `auto`: bf16 on CUDA, "
           "f32 on the CPU.",
       .choices = {"auto", "f32", "bf16"}},
      {.path = "precision.master",
       .field = TERROIR_FIELD(precision.master),
       .meaning =
           "Weights as the optimizer keeps and updates them. `bf16`, which needs precision.compute=bf16: "
           "only the weights that layers see, 4 bytes less for each; an update is rounded up or down at "
           "random, so that small ones count on average.",
       .choices = {"f32", "bf16"}},
      {.path = "precision.gradients",
       .field = TERROIR_FIELD(precision.gradients),
       .meaning =
           "Gradients of the layers' matrices, as they are summed over micro-batches; those of embeddings, "
           "head, norms and biases are f32. `bf16`, which needs precision.compute=bf16 and "
           "precision.reduction=bf16: half the memory; the sum is rounded after each micro-batch.",
       .choices = {"f32", "bf16"}},
      {.path = "precision.reduction",
       .field = TERROIR_FIELD(precision.reduction),
       .meaning =
           "Gradients as ranks exchange them. `bf16`: half the bytes; each rank's sum is rounded before, "
           "the sum over ranks after (once over MPI, at every hop over NCCL). One rank exchanges nothing "
           "and rounds nothing.",
       .choices = {"f32", "bf16"}},

      {.path = "optimizer.name",
       .field = TERROIR_FIELD(optimizer.name),
       .meaning = "The update rule.",
       .choices = {"adamw"},
       .planned = {"muon"}},
      {.path = "optimizer.lr",
       .field = TERROIR_FIELD(optimizer.lr),
       .meaning = "Peak learning rate.",
       .range = kPositive},
      {.path = "optimizer.betas",
       .field = [](Config& config, const Captures&) -> Field {
         return NumberPair{&config.optimizer.beta1, &config.optimizer.beta2};
       },
       .meaning = "Decay of the averages of the gradient and of its square.",
       .range = {.min = 0, .max = 1, .below_max = true}},
      {.path = "optimizer.eps",
       .field = TERROIR_FIELD(optimizer.eps),
       .meaning = "Added to the root of the second average.",
       .range = kPositive},
      {.path = "optimizer.weight_decay",
       .field = TERROIR_FIELD(optimizer.weight_decay),
       .meaning = "Decoupled decay of matrices; norms and biases have none.",
       .range = {.min = 0}},
      {.path = "optimizer.grad_clip",
       .field = TERROIR_FIELD(optimizer.grad_clip),
       .meaning = "Largest global norm of the gradient; 0: no clipping.",
       .range = {.min = 0}},

      {.path = "schedule.name",
       .field = TERROIR_FIELD(schedule.name),
       .meaning = "Course of the learning rate after the warm-up; `wsd`: constant, then down.",
       .choices = {"constant", "cosine", "wsd"}},
      {.path = "schedule.warmup_steps",
       .field = TERROIR_FIELD(schedule.warmup_steps),
       .meaning = "Steps of linear growth at the start.",
       .range = kCount},
      {.path = "schedule.decay_steps",
       .field = TERROIR_FIELD(schedule.decay_steps),
       .meaning = "Last steps of `wsd`, in which the rate falls; 0 with other schedules.",
       .range = kCount},
      {.path = "schedule.final_lr",
       .field = TERROIR_FIELD(schedule.final_lr),
       .meaning = "Rate of the last step, as a share of `optimizer.lr`.",
       .range = {0, 1}},

      {.path = "checkpoint.every",
       .field = TERROIR_FIELD(checkpoint.every),
       .meaning = "Steps between checkpoints; 0: only at the end.",
       .range = kCount},
      {.path = "checkpoint.keep_last",
       .field = TERROIR_FIELD(checkpoint.keep_last),
       .meaning = "Newest checkpoints that are kept; 0: all.",
       .range = kCount},
      {.path = "checkpoint.resume",
       .field = TERROIR_FIELD(checkpoint.resume),
       .meaning =
           "`auto` goes on from the newest valid checkpoint; `never` refuses a run folder that is not empty.",
       .choices = {"auto", "never"}},

      {.path = "eval.every",
       .field = TERROIR_FIELD(eval.every),
       .meaning = "Steps between evaluations on held-out text; 0: only at the end.",
       .range = kCount},
      {.path = "eval.max_samples",
       .field = TERROIR_FIELD(eval.max_samples),
       .meaning = "Held-out sequences of each source that are evaluated.",
       .range = {1, kMaxCount}},
  };
}

#undef TERROIR_FIELD

}  // namespace

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> keys = make_keys();
  return keys;
}

const std::vector<ConfigSection>& config_sections() {
  static const std::vector<ConfigSection> sections = {
      {"run", "What the run is called and where it is kept."},
      {"model", "The decoder's shape, in Hugging Face's names."},
      {"model.rope_scaling",
       "Llama-3 scaling of rotary frequencies for contexts longer than trained; null: none."},
      {"data", "What to learn from."},
      {"data.stages", "Mixtures over the run, one for now.", true},
      {"data.stages.N", "One mixture."},
      {"data.stages.N.sources", "Weight of each source; a source without a weight is not trained on.", true},
      {"data.sources", "The sources that mixtures name.", true},
      {"data.sources.NAME", "One source."},
      {"parallel", "The layout over ranks; data parallelism is what is left of the world."},
      {"train", "How much to train, and in which portions."},
      {"precision", "What is rounded to what. AdamW's moments and the sums inside kernels are f32."},
      {"optimizer", "The update of the weights."},
      {"schedule", "The learning rate over the run."},
      {"checkpoint", "When state is saved, and what happens when a run is started again."},
      {"eval", "Evaluation on held-out text while training."},
  };
  return sections;
}

}  // namespace terroir
