#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <map>
#include <string>

#include "parallel/world.h"

namespace terroir::test {
namespace {

using Variables = std::map<std::string, std::string>;

// Only these launcher variables are set while it lives.
class Environment {
 public:
  explicit Environment(const Variables& variables) {
    for (const char* name : kNames) {
      if (const char* value = std::getenv(name)) saved_[name] = value;
      unsetenv(name);
    }
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const char* name : kNames) unsetenv(name);
    for (const auto& [name, value] : saved_) setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static constexpr const char* kNames[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",       "PMIX_RANK",
                                           "SLURM_NTASKS",         "SLURM_PROCID",   "SLURM_STEP_ID",
                                           "SLURM_STEP_NUM_TASKS", "OMP_NUM_THREADS"};
  Variables saved_;
};

bool launched_with(const Variables& variables) {
  const Environment environment(variables);
  return launched_by_mpi();
}

TEST(LaunchedByMpi, OnAMachineWithoutLauncherIsFalse) { EXPECT_FALSE(launched_with({})); }

TEST(LaunchedByMpi, MpirunWithSeveralRanksIsTrue) {
  EXPECT_TRUE(launched_with({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "0"}}));
  EXPECT_TRUE(launched_with({{"PMI_SIZE", "2"}}));
  EXPECT_TRUE(launched_with({{"PMIX_RANK", "1"}}));
}

TEST(LaunchedByMpi, MpirunWithOneRankIsFalse) {
  EXPECT_FALSE(launched_with({{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}}));
  EXPECT_FALSE(launched_with({{"PMI_SIZE", "1"}}));
}

TEST(LaunchedByMpi, AStepOfSrunIsTrueAndABatchScriptIsNot) {
  EXPECT_TRUE(launched_with(
      {{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}}));
  EXPECT_FALSE(launched_with({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}}));
  EXPECT_FALSE(launched_with({{"SLURM_NTASKS", "4"},
                              {"SLURM_PROCID", "0"},
                              {"SLURM_STEP_ID", "4294967291"},  // SLURM_BATCH_SCRIPT
                              {"SLURM_STEP_NUM_TASKS", "4"}}));
  EXPECT_FALSE(launched_with({{"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
}

// For the calling thread, and what it starts.
class Affinity {
 public:
  explicit Affinity(int num_processors) {
    sched_getaffinity(0, sizeof(saved_), &saved_);
    cpu_set_t wanted;
    CPU_ZERO(&wanted);
    for (int processor = 0; processor < CPU_SETSIZE && CPU_COUNT(&wanted) < num_processors; ++processor)
      if (CPU_ISSET(processor, &saved_)) CPU_SET(processor, &wanted);
    sched_setaffinity(0, sizeof(wanted), &wanted);
  }
  ~Affinity() { sched_setaffinity(0, sizeof(saved_), &saved_); }
  Affinity(const Affinity&) = delete;
  Affinity& operator=(const Affinity&) = delete;
  int available() const { return CPU_COUNT(&saved_); }

 private:
  cpu_set_t saved_;
};

int threads_with_ranks(int num_ranks) {
  int threads = 0;
  run_threads(num_ranks, {.timeout_s = 30}, [&](World& world) {
    const int mine = threads_per_rank(world);
    if (world.rank() == 0) threads = mine;
  });
  return threads;
}

TEST(ThreadsPerRank, DividesTheProcessorsAmongTheRanksThatShareThem) {
  const Environment environment(Variables{});
  const Affinity two(2);
  if (two.available() < 2) GTEST_SKIP() << "needs two processors";
  EXPECT_EQ(threads_with_ranks(1), 2);
  EXPECT_EQ(threads_with_ranks(2), 1);
  EXPECT_EQ(threads_with_ranks(3), 1) << "at least one";
}

TEST(ThreadsPerRank, ARankOfItsOwnProcessorsKeepsThemAll) {
  const Environment environment(Variables{});
  if (Affinity(1).available() < 2) GTEST_SKIP() << "needs two processors";
  run_threads(2, {.timeout_s = 30}, [](World& world) {
    cpu_set_t all, own;
    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&own);
    for (int processor = 0, seen = 0; processor < CPU_SETSIZE; ++processor)
      if (CPU_ISSET(processor, &all) && seen++ == world.rank()) CPU_SET(processor, &own);
    sched_setaffinity(0, sizeof(own), &own);
    EXPECT_EQ(threads_per_rank(world), 1);
  });
}

TEST(ThreadsPerRank, OmpNumThreadsIsTakenAsItIs) {
  const Environment environment(Variables{{"OMP_NUM_THREADS", "7"}});
  EXPECT_EQ(threads_per_rank(*local_world()), 7);
  const Environment nonsense(Variables{{"OMP_NUM_THREADS", "many"}});
  EXPECT_LT(threads_per_rank(*local_world()), CPU_SETSIZE);
}

}  // namespace
}  // namespace terroir::test
