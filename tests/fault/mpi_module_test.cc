// A missing, damaged or foreign libterroir_mpi.so is one clear sentence. A copy of fault_rank looks beside
// itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class MpiModule : public testing::Test {
 protected:
  MpiModule() { std::filesystem::copy_file(TERROIR_FAULT_RANK, program()); }
  std::filesystem::path program() const { return folder_ / "fault_rank"; }
  std::filesystem::path module() const { return folder_ / "libterroir_mpi.so"; }

  // Expects exit code 1 and returns the error line.
  std::string error_of_program() const {
    const std::filesystem::path output = folder_ / "output";
    const std::string command = program().string() + " none 2 token > " + output.string() + " 2>&1";
    const int status = std::system(command.c_str());
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
    std::ifstream file(output);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    return text;
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(MpiModule, AbsentSaysWhereItWasLookedFor) {
  EXPECT_THAT(error_of_program(),
              AllOf(HasSubstr("terroir: error: MPI transport: libterroir_mpi.so is neither in " +
                              program().parent_path().string() + " nor in the library path"),
                    HasSubstr("cannot open shared object file")));
}

TEST_F(MpiModule, DamagedRepeatsTheLoadersWords) {
  std::ofstream(module())
      << "this is not a library, whatever its name says: a text of more than sixty-four bytes";
  EXPECT_THAT(error_of_program(),
              AllOf(HasSubstr("cannot load " + module().string()), HasSubstr("invalid ELF header")));
}

TEST_F(MpiModule, OfAnotherVersionIsRefused) {
  std::filesystem::copy_file(TERROIR_OTHER_MODULE, module());
  EXPECT_THAT(error_of_program(), HasSubstr("does not fit this program (interface version 99, wanted 1)"));
}

TEST_F(MpiModule, WithoutTheInterfaceIsRefused) {
  std::filesystem::copy_file(TERROIR_EMPTY_MODULE, module());
  EXPECT_THAT(error_of_program(), HasSubstr("does not fit this program (interface version 0, wanted 1)"));
}

}  // namespace
}  // namespace terroir
