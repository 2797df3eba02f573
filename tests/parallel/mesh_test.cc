#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace terroir::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A world of any size and rank whose groups only remember their ranks.
class PaperWorld : public World {
 public:
  PaperWorld(int rank, int size) : rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return rank_; }
  int local_size() const override { return size_; }
  const std::string& transport() const override { return transport_; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue, std::string name) override {
    last_ranks = ranks;
    last_name = std::move(name);
    ++num_groups;
    return local_->group({0}, Queue::kControl, last_name);
  }
  void set_position(std::int64_t, const char*) override {}
  void abort(int) noexcept override {}

  std::vector<int> last_ranks;
  std::string last_name;
  int num_groups = 0;

 private:
  int rank_, size_;
  std::string transport_ = "paper";
  std::unique_ptr<World> local_ = local_world();
};

constexpr MeshShape kShape = {.tensor = 2, .context = 1, .data = 3, .pipeline = 2};  // 12 ranks

TEST(Mesh, TensorPeersAreNeighboursAndStagesAreFarthest) {
  PaperWorld world(7, 12);  // 7 = 1 + 2 * (0 + 1 * (0 + 3 * 1))
  Mesh mesh(world, kShape);
  EXPECT_EQ(mesh.coordinate(Axis::kTensor), 1);
  EXPECT_EQ(mesh.coordinate(Axis::kContext), 0);
  EXPECT_EQ(mesh.coordinate(Axis::kData), 0);
  EXPECT_EQ(mesh.coordinate(Axis::kPipeline), 1);
}

TEST(Mesh, RankAtInvertsCoordinates) {
  for (int rank = 0; rank < 12; ++rank) {
    PaperWorld world(rank, 12);
    Mesh mesh(world, kShape);
    EXPECT_EQ(mesh.rank_at({mesh.coordinate(Axis::kTensor), mesh.coordinate(Axis::kContext),
                            mesh.coordinate(Axis::kData), mesh.coordinate(Axis::kPipeline)}),
              rank);
  }
  PaperWorld world(0, 12);
  EXPECT_THROW(Mesh(world, kShape).rank_at({2, 0, 0, 0}), ContractError);
}

TEST(Mesh, GroupsVaryAlongTheirAxesOnly) {
  PaperWorld world(7, 12);
  Mesh mesh(world, kShape);
  mesh.group({Axis::kTensor}, Queue::kTensor);
  EXPECT_THAT(world.last_ranks, ElementsAre(6, 7));
  mesh.group({Axis::kData, Axis::kContext}, Queue::kData);
  EXPECT_THAT(world.last_ranks, ElementsAre(7, 9, 11));
  EXPECT_EQ(world.last_name, "context+data");
  mesh.group({Axis::kPipeline}, Queue::kPipelineForward);
  EXPECT_THAT(world.last_ranks, ElementsAre(1, 7));
  mesh.group({Axis::kTensor, Axis::kPipeline}, Queue::kControl);
  EXPECT_THAT(world.last_ranks, ElementsAre(0, 1, 6, 7));
  mesh.control();
  EXPECT_EQ(world.last_ranks.size(), 12u);
}

TEST(Mesh, AGroupIsMadeOncePerQueue) {
  PaperWorld world(0, 12);
  Mesh mesh(world, kShape);
  Communicator& first = mesh.group({Axis::kData}, Queue::kData);
  EXPECT_EQ(&mesh.group({Axis::kData}, Queue::kData), &first);
  EXPECT_EQ(&mesh.group_of({0, 2, 4}, Queue::kData, "the same ranks"), &first);
  EXPECT_NE(&mesh.group({Axis::kData}, Queue::kControl), &first);
  EXPECT_EQ(world.num_groups, 2);
}

TEST(Mesh, GroupsReallyCommunicate) {
  run_threads(4, {.timeout_s = 30}, [](World& world) {
    Mesh mesh(world, {.tensor = 2, .pipeline = 2});
    std::int32_t sum = world.rank();
    mesh.group({Axis::kPipeline}, Queue::kData)
        .all_reduce(View(&sum, DType::kI32, {1}), ReduceOp::kSum, Stream(), "ranks")
        .wait();
    EXPECT_EQ(sum, world.rank() % 2 == 0 ? 0 + 2 : 1 + 3);
  });
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UserError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    return error.what();
  }
  return "no UserError";
}

TEST(MeshShape, DataTakesTheRanksThatAreLeft) {
  EXPECT_EQ(MeshShape::with_data_filled(12, 2, 1, 2).data, 3);
  EXPECT_EQ(MeshShape::with_data_filled(1, 1, 1, 1).data, 1);
}

TEST(MeshShape, ErrorsShowEveryNumber) {
  EXPECT_THAT(
      message_of([] { MeshShape::with_data_filled(10, 2, 1, 3); }),
      HasSubstr(
          "parallel.tensor 2 x parallel.context 1 x parallel.pipeline 3 = 6 does not divide the 10 ranks"));
  EXPECT_THAT(message_of([] { MeshShape::with_data_filled(4, 0, 1, 1); }),
              HasSubstr("parallel.tensor: is 0"));
  PaperWorld world(0, 8);
  EXPECT_THAT(message_of([&] { Mesh(world, kShape); }),
              HasSubstr("tensor 2 x context 1 x data 3 x pipeline 2 = 12 ranks, but this job has 8"));
}

}  // namespace
}  // namespace terroir::test
