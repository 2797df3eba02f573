#include "parallel/mpi/module.h"

// Only the C interface: the C++ bindings, long removed from MPI, would need another library.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <cstdio>
#include <memory>
#include <vector>

namespace {

// MPI's requests are values; the caller holds a pointer. Kept and reused.
struct Request {
  MPI_Request request = MPI_REQUEST_NULL;
  bool receiving = false;
};

struct Job {
  std::vector<MPI_Comm> channels;
  std::vector<std::unique_ptr<Request>> requests;
  std::vector<Request*> free_requests;
};
Job& job() {  // MPI itself is one per process
  static Job the_job;
  return the_job;
}

int failure(char* error, const char* call, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  std::snprintf(error, TERROIR_MPI_ERROR_BYTES, "%s: %s", call, text);
  return 1;
}

int find_local_rank(TerroirMpiJob* out, char* error) {
  MPI_Comm local = MPI_COMM_NULL;
  int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
  if (code != MPI_SUCCESS) return failure(error, "MPI_Comm_split_type", code);
  MPI_Comm_rank(local, &out->local_rank);
  MPI_Comm_size(local, &out->local_size);
  MPI_Comm_free(&local);
  return 0;
}

int start(int32_t num_channels, TerroirMpiJob* out, char* error) {
  int provided = 0;
  int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
  if (code != MPI_SUCCESS) return failure(error, "MPI_Init_thread", code);
  if (provided < MPI_THREAD_SERIALIZED) {
    std::snprintf(error, TERROIR_MPI_ERROR_BYTES,
                  "MPI_Init_thread: this MPI library does not allow calls from more than one thread "
                  "(MPI_THREAD_SERIALIZED), which Terroir needs");
    return 1;
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);  // inherited by the channels
  MPI_Comm_rank(MPI_COMM_WORLD, &out->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &out->size);
  if (const int failed = find_local_rank(out, error)) return failed;
  for (int32_t channel = 0; channel < num_channels; ++channel) {
    job().channels.push_back(MPI_COMM_NULL);
    code = MPI_Comm_dup(MPI_COMM_WORLD, &job().channels.back());
    if (code != MPI_SUCCESS) return failure(error, "MPI_Comm_dup", code);
  }
  return 0;
}

int finish(char* error) {
  for (MPI_Comm& channel : job().channels) MPI_Comm_free(&channel);
  job().channels.clear();
  const int code = MPI_Finalize();
  return code == MPI_SUCCESS ? 0 : failure(error, "MPI_Finalize", code);
}

void abort_job(int32_t exit_code) { MPI_Abort(MPI_COMM_WORLD, exit_code); }

Request* take_request() {
  if (job().free_requests.empty()) {
    job().requests.push_back(std::make_unique<Request>());
    return job().requests.back().get();
  }
  Request* request = job().free_requests.back();
  job().free_requests.pop_back();
  return request;
}

int send(int32_t channel, int32_t peer, int32_t tag, const void* data, int64_t bytes, void** out,
         char* error) {
  Request* request = take_request();
  request->receiving = false;
  const int code = MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, job().channels[channel],
                             &request->request);
  *out = request;
  return code == MPI_SUCCESS ? 0 : failure(error, "MPI_Isend", code);
}

int receive(int32_t channel, int32_t peer, int32_t tag, void* data, int64_t bytes, void** out, char* error) {
  Request* request = take_request();
  request->receiving = true;
  const int code = MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, job().channels[channel],
                             &request->request);
  *out = request;
  return code == MPI_SUCCESS ? 0 : failure(error, "MPI_Irecv", code);
}

int test(void* opaque, int32_t* done, int64_t* received, char* error) {
  auto* request = static_cast<Request*>(opaque);
  MPI_Status status;
  const int code = MPI_Test(&request->request, done, &status);
  if (code != MPI_SUCCESS) return failure(error, "MPI_Test", code);
  if (!*done) return 0;
  int count = 0;
  if (request->receiving) MPI_Get_count(&status, MPI_BYTE, &count);
  *received = count;
  job().free_requests.push_back(request);
  return 0;
}

}  // namespace

const TerroirMpiV1* terroir_mpi_v1(void) {
  static const TerroirMpiV1 functions = {
      TERROIR_MPI_VERSION, sizeof(TerroirMpiV1), start, finish, abort_job, send, receive, test};
  return &functions;
}
