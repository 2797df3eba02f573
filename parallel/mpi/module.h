// The interface of libterroir_mpi.so: the one part of Terroir that is compiled against an MPI library. Plain
// C data and error strings only, so that a site can build this module alone, with its own MPI and compiler.
//
// Contract: one thread at a time calls any function (MPI_THREAD_SERIALIZED). A function that can fail returns
// 0, or writes one zero-terminated sentence into `error` (TERROIR_MPI_ERROR_BYTES) and returns another value.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TERROIR_MPI_VERSION 1
#define TERROIR_MPI_ERROR_BYTES 512

struct TerroirMpiJob {
  int32_t rank, size;              // in the job
  int32_t local_rank, local_size;  // among the ranks of this machine
};

struct TerroirMpiV1 {
  uint32_t version;      // TERROIR_MPI_VERSION
  uint32_t struct_size;  // sizeof(struct TerroirMpiV1)

  // Starts MPI and makes `num_channels` communicators of all ranks. Collective; may wait for ever for a
  // missing rank.
  int (*start)(int32_t num_channels, struct TerroirMpiJob* job, char* error);
  // Ends MPI. Collective; by the thread that called start().
  int (*finish)(char* error);
  // Ends every process of the job with `exit_code`.
  void (*abort)(int32_t exit_code);
  // Start a message of 0 < bytes < 2^31 on a channel; `*request` is then passed to test(). Memory as for
  // MPI_Isend.
  int (*send)(int32_t channel, int32_t peer, int32_t tag, const void* data, int64_t bytes, void** request,
              char* error);
  int (*receive)(int32_t channel, int32_t peer, int32_t tag, void* data, int64_t bytes, void** request,
                 char* error);
  // *done: the request is complete, and gone. *received: the bytes that arrived (receives only).
  int (*test)(void* request, int32_t* done, int64_t* received, char* error);
};

// The one symbol looked up.
const struct TerroirMpiV1* terroir_mpi_v1(void);
typedef const struct TerroirMpiV1* (*terroir_mpi_v1_function)(void);

#ifdef __cplusplus
}
#endif
