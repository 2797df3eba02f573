// What a test can do to the emulated NCCL: cuda_module_symbol("nccl_on_cpu_break_network").
#pragma once

// From now on every communicator reports ncclRemoteError and nothing arrives any more, until it is mended.
extern "C" [[gnu::visibility("default")]] void nccl_on_cpu_break_network(bool broken);
