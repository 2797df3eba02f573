// Save-and-leave requests: SIGUSR1 and SIGTERM to this process, or a file STOP in the run folder.
#pragma once

#include <filesystem>

namespace terroir {

// Installs handlers while it lives; a second SIGTERM ends the process at once. One at a time per process.
class SaveRequest {
 public:
  explicit SaveRequest(std::filesystem::path run_folder);
  ~SaveRequest();
  SaveRequest(const SaveRequest&) = delete;
  SaveRequest& operator=(const SaveRequest&) = delete;
  // True once this rank was asked. Ranks agree in the step's all-reduce.
  bool pending() const;

 private:
  std::filesystem::path stop_file_;
};

}  // namespace terroir
