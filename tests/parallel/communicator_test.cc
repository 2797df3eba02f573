// Every collective on every transport: this file is compiled once with each *_worlds.cc.
#include "parallel/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "parallel/text.h"
#include "tests/parallel/rank_data.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {
namespace {

const Stream kHost;
// Around the limits: empty, one element, fewer than ranks, one message, several segments, more than
// small_bytes.
constexpr std::int64_t kSizes[] = {0, 1, 3, 10, 257, 30000};

template <class T>
class TypedCollective : public testing::Test {};
using Reducible = testing::Types<float, BFloat16, double, std::int32_t, std::int64_t>;
TYPED_TEST_SUITE(TypedCollective, Reducible);

TYPED_TEST(TypedCollective, AllReduceSumsInRankOrder) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    for (const std::int64_t n : kSizes) {
      std::vector<TypeParam> values = rank_values<TypeParam>(world.rank(), n);
      group->all_reduce(view_of(values), ReduceOp::kSum, kHost, "x").wait();
      EXPECT_EQ(count_differences(values, sum_of_ranks<TypeParam>(world.size(), n)), 0) << n << " elements";
    }
  });
}

TYPED_TEST(TypedCollective, AllReduceFindsTheMaximum) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    std::vector<TypeParam> values = {to_element<TypeParam>(world.rank()),
                                     to_element<TypeParam>(-world.rank())};
    group->all_reduce(view_of(values), ReduceOp::kMax, kHost, "x").wait();
    EXPECT_TRUE(same(values[0], to_element<TypeParam>(world.size() - 1)));
    EXPECT_TRUE(same(values[1], to_element<TypeParam>(0)));
  });
}

TYPED_TEST(TypedCollective, ReduceScatterGivesEachRankItsRows) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    for (const std::int64_t rows : {0, 1, 5, 1023}) {  // fewer rows than ranks leave parts empty
      const std::vector<TypeParam> original = rank_values<TypeParam>(world.rank(), rows * 3);
      std::vector<TypeParam> in = original;
      const Range mine = split_range(rows, world.size(), world.rank());
      std::vector<TypeParam> out(static_cast<std::size_t>(mine.size() * 3));
      group
          ->reduce_scatter(view_of(in).reshape({rows, 3}), view_of(out).reshape({mine.size(), 3}), kHost, "x")
          .wait();
      std::vector<TypeParam> expected = sum_of_ranks<TypeParam>(world.size(), rows * 3);
      expected = {expected.begin() + mine.begin * 3, expected.begin() + mine.end * 3};
      EXPECT_EQ(count_differences(out, expected), 0) << rows << " rows";
      EXPECT_EQ(count_differences(in, original), 0) << "the input has changed";
    }
  });
}

TYPED_TEST(TypedCollective, ReduceScatterMayWriteIntoItsInput) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    std::vector<TypeParam> values = rank_values<TypeParam>(world.rank(), 700);
    const Range mine = split_range(700, world.size(), world.rank());
    const View in = view_of(values);
    group->reduce_scatter(in, in.slice(0, mine.begin, mine.end), kHost, "x").wait();
    const std::vector<TypeParam> expected = sum_of_ranks<TypeParam>(world.size(), 700);
    for (std::int64_t i = mine.begin; i < mine.end; ++i) ASSERT_TRUE(same(values[i], expected[i])) << i;
  });
}

template <class T>
class AnyTypeCollective : public testing::Test {};
using AnyType = testing::Types<float, BFloat16, double, std::int32_t, std::int64_t, std::uint8_t>;
TYPED_TEST_SUITE(AnyTypeCollective, AnyType);

TYPED_TEST(AnyTypeCollective, AllGatherCollectsUnevenParts) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kTensor, "tensor");
    for (const std::int64_t rows : {0, 1, 5, 203}) {
      const std::vector<TypeParam> expected = rank_values<TypeParam>(7, rows * 2);
      const Range mine = split_range(rows, world.size(), world.rank());
      std::vector<TypeParam> in(expected.begin() + mine.begin * 2, expected.begin() + mine.end * 2);
      std::vector<TypeParam> out(static_cast<std::size_t>(rows * 2));
      group->all_gather(view_of(in).reshape({mine.size(), 2}), view_of(out).reshape({rows, 2}), kHost, "x")
          .wait();
      EXPECT_EQ(count_differences(out, expected), 0) << rows << " rows";
    }
  });
}

TYPED_TEST(AnyTypeCollective, AllGatherMayReadFromItsOutput) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kTensor, "tensor");
    const std::vector<TypeParam> expected = rank_values<TypeParam>(7, 77);
    const Range mine = split_range(77, world.size(), world.rank());
    std::vector<TypeParam> values(77);
    std::copy(expected.begin() + mine.begin, expected.begin() + mine.end, values.begin() + mine.begin);
    const View out = view_of(values);
    group->all_gather(out.slice(0, mine.begin, mine.end), out, kHost, "x").wait();
    EXPECT_EQ(count_differences(values, expected), 0);
  });
}

TEST(Texts, OfAnyLengthReachTheirRanks) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kControl, "control");
    const auto text_of = [](int rank) {
      return std::string(static_cast<std::size_t>(rank * 3000), 'a' + rank);
    };
    EXPECT_EQ(broadcast_text(world.rank() == 0 ? "first" : "other", *group, "text"), "first");
    EXPECT_EQ(broadcast_text(text_of(world.rank()), *group, "text"), "");  // rank 0's is empty
    std::vector<std::string> expected;
    for (int rank = 0; world.rank() == 0 && rank < world.size(); ++rank) expected.push_back(text_of(rank));
    EXPECT_EQ(gather_texts(text_of(world.rank()), *group, "texts"), expected);
  });
}

TYPED_TEST(AnyTypeCollective, BroadcastCopiesFromAnyRoot) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kControl, "world");
    for (int root = 0; root < world.size(); ++root) {
      std::vector<TypeParam> values = rank_values<TypeParam>(world.rank(), 99, root);
      group->broadcast(view_of(values), root, kHost, "x").wait();
      EXPECT_EQ(count_differences(values, rank_values<TypeParam>(root, 99, root)), 0) << "root " << root;
    }
  });
}

TYPED_TEST(AnyTypeCollective, AllToAllMovesRowsInRankOrder) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    // Rank r sends (r + 2 p) % 4 rows to rank p: some of the counts are zero.
    const auto rows_from_to = [](int from, int to) -> std::int64_t { return (from + 2 * to) % 4; };
    std::vector<std::int64_t> send_rows, recv_rows;
    std::vector<TypeParam> in, expected;
    for (int peer = 0; peer < world.size(); ++peer) {
      send_rows.push_back(rows_from_to(world.rank(), peer));
      recv_rows.push_back(rows_from_to(peer, world.rank()));
      for (const TypeParam value : rank_values<TypeParam>(world.rank(), send_rows.back() * 5, peer))
        in.push_back(value);
      for (const TypeParam value : rank_values<TypeParam>(peer, recv_rows.back() * 5, world.rank()))
        expected.push_back(value);
    }
    std::vector<TypeParam> out(expected.size());
    group->all_to_all(view_of(in).split(0, 5), view_of(out).split(0, 5), send_rows, recv_rows, kHost, "x")
        .wait();
    EXPECT_EQ(count_differences(out, expected), 0);
  });
}

TEST(Collective, AllToAllSendsFromARankThatReceivesNothing) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    // Everybody sends one row to rank 0.
    std::vector<std::int64_t> send_rows(static_cast<std::size_t>(world.size()), 0);
    send_rows[0] = 1;
    const std::vector<std::int64_t> recv_rows(send_rows.size(), world.rank() == 0 ? 1 : 0);
    std::vector<float> in = {static_cast<float>(world.rank())};
    std::vector<float> out(world.rank() == 0 ? send_rows.size() : 0);
    group->all_to_all(view_of(in), view_of(out), send_rows, recv_rows, kHost, "x").wait();
    for (std::size_t rank = 0; rank < out.size(); ++rank) EXPECT_EQ(out[rank], static_cast<float>(rank));
  });
}

TEST(Collective, MaximumOfNaNIsNaN) {
  on_every_world([](World& world) {
    if (world.transport() == "nccl") return;  // drops it: parallel/nccl/nccl_world.h
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    for (int bad = 0; bad < world.size(); ++bad) {
      float value = world.rank() == bad ? std::numeric_limits<float>::quiet_NaN() : 1.0f;
      group->all_reduce(View(&value, DType::kF32, {1}), ReduceOp::kMax, kHost, "flag").wait();
      EXPECT_TRUE(std::isnan(value)) << "from rank " << bad;
    }
  });
}

TEST(Collective, SumsAreCloseToTheExactValue) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    std::vector<float> values = rank_values<float>(world.rank(), 5000);
    group->all_reduce(view_of(values), ReduceOp::kSum, kHost, "x").wait();
    for (std::int64_t i = 0; i < 5000; ++i) {
      double exact = 0;
      for (int rank = 0; rank < world.size(); ++rank) exact += static_cast<float>(rank_value(rank, i, 0));
      ASSERT_NEAR(values[i], exact, world.size() * 128 * 0x1p-24) << i;  // |values| <= 128
    }
  });
}

TEST(Collective, SubgroupsOfTheSameQueueDoNotMix) {
  on_every_world([](World& world) {
    const int parity = world.rank() % 2;
    std::vector<int> members;
    for (int rank = parity; rank < world.size(); rank += 2) members.push_back(rank);
    const auto half = world.group(members, Queue::kTensor, "half");
    const auto whole = world.group(all_ranks(world), Queue::kTensor, "whole");
    EXPECT_EQ(half->size(), std::ssize(members));
    for (int round = 0; round < 20; ++round) {
      std::int64_t in_half = 1 + parity, in_whole = 1;
      Work first = half->all_reduce(View(&in_half, DType::kI64, {1}), ReduceOp::kSum, kHost, "half");
      Work second = whole->all_reduce(View(&in_whole, DType::kI64, {1}), ReduceOp::kSum, kHost, "whole");
      second.wait();
      first.wait();
      EXPECT_EQ(in_half, (1 + parity) * std::ssize(members));
      EXPECT_EQ(in_whole, world.size());
    }
  });
}

TEST(Collective, ALaterOneOnTheQueueSeesTheResultOfAnEarlierOne) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    std::vector<std::int64_t> values(500, 1);
    std::vector<Work> works;
    for (int i = 0; i < 5; ++i)
      works.push_back(group->all_reduce(view_of(values), ReduceOp::kSum, kHost, "x"));
    for (Work& work : works) work.wait();
    const auto expected = static_cast<std::int64_t>(std::pow(world.size(), 5));
    EXPECT_EQ(std::count(values.begin(), values.end(), expected), 500);
  });
}

TEST(Collective, QueuesDoNotWaitForEachOther) {
  on_every_world([](World& world) {
    constexpr Queue kQueues[] = {Queue::kTensor, Queue::kData, Queue::kPipelineForward,
                                 Queue::kPipelineBackward, Queue::kControl};
    std::vector<std::unique_ptr<Communicator>> groups;
    for (const Queue queue : kQueues) groups.push_back(world.group(all_ranks(world), queue, "all"));
    std::vector<std::vector<float>> values(5);
    std::vector<Work> works(5);
    // Each rank starts with another queue, and waits in yet another order.
    for (int i = 0; i < 5; ++i) {
      const int queue = (i + world.rank()) % 5;
      values[queue] = rank_values<float>(world.rank(), 4000, queue);
      works[queue] = groups[queue]->all_reduce(view_of(values[queue]), ReduceOp::kSum, kHost, "x");
    }
    for (int i = 0; i < 5; ++i) works[(i * 2 + world.rank()) % 5].wait();
    for (int queue = 0; queue < 5; ++queue)
      EXPECT_EQ(count_differences(values[queue], sum_of_ranks<float>(world.size(), 4000, queue)), 0) << queue;
  });
}

TEST(PointToPoint, AReceiveMayBePostedLongBeforeItsMessageAndDoesNotBlockSends) {
  on_every_world([](World& world) {
    if (world.size() == 1) return;
    const auto group = world.group(all_ranks(world), Queue::kPipelineForward, "pipeline");
    const int next = (world.rank() + 1) % world.size();
    const int previous = (world.rank() + world.size() - 1) % world.size();
    std::vector<std::vector<float>> arrivals(10, std::vector<float>(50));
    std::vector<Work> receives, sends;
    for (auto& arrival : arrivals)
      receives.push_back(group->recv(view_of(arrival), previous, kHost, "arrival"));
    std::vector<std::vector<float>> departures;
    for (int i = 0; i < 10; ++i) departures.push_back(rank_values<float>(world.rank(), 50, i));
    for (auto& departure : departures)
      sends.push_back(group->send(view_of(departure), next, kHost, "departure"));
    for (Work& work : sends) work.wait();
    for (Work& work : receives) work.wait();
    for (int i = 0; i < 10; ++i)
      EXPECT_EQ(count_differences(arrivals[i], rank_values<float>(previous, 50, i)), 0);
  });
}

TEST(PointToPoint, EmptyMessagesAreComplete) {
  on_every_world([](World& world) {
    if (world.size() == 1) return;
    const auto group = world.group(all_ranks(world), Queue::kPipelineForward, "pipeline");
    std::vector<float> nothing;
    if (world.rank() == 0) group->send(view_of(nothing), 1, kHost, "nothing").wait();
    if (world.rank() == 1) group->recv(view_of(nothing), 0, kHost, "nothing").wait();
  });
}

TEST(Collective, ThousandsOfSmallOnes) {
  on_every_world([](World& world) {
    const auto tensor = world.group(all_ranks(world), Queue::kTensor, "tensor");
    const auto data = world.group(all_ranks(world), Queue::kData, "data");
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < 1000; ++i) {
      std::int64_t in_tensor = i, in_data = 2 * i;
      Work work = data->all_reduce(View(&in_data, DType::kI64, {1}), ReduceOp::kSum, kHost, "data");
      tensor->all_reduce(View(&in_tensor, DType::kI64, {1}), ReduceOp::kSum, kHost, "tensor").wait();
      work.wait();
      total += in_tensor + in_data;
    }
    EXPECT_EQ(total, world.size() * 3 * (999 * 1000 / 2));
  });
}

TEST(Collective, ABarrierWaitsForEveryone) {
  on_every_world([](World& world) {
    const auto control = world.group(all_ranks(world), Queue::kControl, "world");
    for (int i = 0; i < 10; ++i) control->barrier(kHost, "test");
  });
}

TEST(Collective, ViewsThatDoNotFitAreRefusedBeforeAnythingIsSent) {
  on_every_world([](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kData, "data");
    std::vector<float> values(24);
    std::vector<double> doubles(24);
    const View matrix = view_of(values).reshape({4, 6});
    const auto rank = world.rank(), size = world.size();
    EXPECT_THROW(group->all_reduce(matrix.slice(1, 0, 3), ReduceOp::kSum, kHost, "strided"), ContractError);
    EXPECT_THROW(group->all_reduce(View(nullptr, DType::kU8, {0}), ReduceOp::kSum, kHost, "u8"),
                 ContractError);
    EXPECT_THROW(group->all_gather(view_of(doubles), matrix, kHost, "dtype"), ContractError);
    EXPECT_THROW(group->reduce_scatter(matrix, view_of(values), kHost, "shape"), ContractError);
    EXPECT_THROW(group->broadcast(matrix, size, kHost, "root"), ContractError);
    const std::vector<std::int64_t> rows(static_cast<std::size_t>(size), 5);
    EXPECT_THROW(group->all_to_all(matrix, matrix, rows, rows, kHost, "too many rows"), ContractError);
    EXPECT_THROW(group->send(matrix, rank, kHost, "to itself"), ContractError);
    EXPECT_THROW(group->recv(matrix, -1, kHost, "from nobody"), ContractError);
    EXPECT_THROW(world.group({rank, rank}, Queue::kData, "twice"), ContractError);
    EXPECT_THROW(world.group({size}, Queue::kData, "outside"), ContractError);
    // The same communicator still works.
    std::int32_t one = 1;
    group->all_reduce(View(&one, DType::kI32, {1}), ReduceOp::kSum, kHost, "after").wait();
    EXPECT_EQ(one, size);
  });
}

TEST(World, KnowsItsRanks) {
  on_every_world([](World& world) {
    EXPECT_GE(world.rank(), 0);
    EXPECT_LT(world.rank(), world.size());
    EXPECT_EQ(world.local_size(), world.size());  // these tests run on one machine
    EXPECT_EQ(world.local_rank(), world.rank());
    const auto pair = world.group(all_ranks(world), Queue::kTensor, "tensor");
    EXPECT_EQ(pair->name(), "tensor");
    EXPECT_EQ(pair->rank(), world.rank());
    EXPECT_EQ(pair->size(), world.size());
  });
}

}  // namespace
}  // namespace terroir::test
