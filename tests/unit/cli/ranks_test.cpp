#include "ranks.h"

#include <gtest/gtest.h>

#include <map>

#include "support/errors.h"

namespace brim::cli {
namespace {

RankPlace place_of(const std::map<std::string, std::string>& variables) {
  return place_from([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

TEST(RankPlaces, NoVariablesMeanAlone) {
  EXPECT_EQ(place_of({}).size, 1);
}

TEST(DataParts, AreThoseOfTheMachines) {
  const std::vector<RankHost> two_of_two{{"a", 0}, {"a", 1}, {"b", 0}, {"b", 1}};
  const DataPart last = part_of(two_of_two, 3);
  EXPECT_EQ(last.part, 1);
  EXPECT_EQ(last.parts, 2);
  EXPECT_EQ(last.rank, 1);
  EXPECT_EQ(last.ranks, 2);
  // Dealt out in turns, and one machine with a rank less.
  const std::vector<RankHost> in_turns{{"a", 0}, {"b", 0}, {"a", 1}, {"b", 1}, {"a", 2}};
  const DataPart third = part_of(in_turns, 4);
  EXPECT_EQ(third.part, 0);
  EXPECT_EQ(third.rank, 2);
  EXPECT_EQ(third.ranks, 3);
  EXPECT_EQ(part_of(in_turns, 3).ranks, 2);
}

TEST(DataParts, OfMachinesWithOneNameAreToldApart) {
  const std::vector<RankHost> containers{{"x", 0}, {"x", 1}, {"x", 0}, {"x", 1}};
  EXPECT_EQ(part_of(containers, 1).part, 0);
  EXPECT_EQ(part_of(containers, 2).part, 1);
  EXPECT_EQ(part_of(containers, 3).rank, 1);
  EXPECT_EQ(part_of(containers, 3).parts, 2);
}

TEST(RankPlaces, AreReadFromTorchrun) {
  const RankPlace place = place_of({{"RANK", "3"},
                                    {"WORLD_SIZE", "4"},
                                    {"LOCAL_RANK", "1"},
                                    {"LOCAL_WORLD_SIZE", "2"},
                                    {"MASTER_ADDR", "node1"},
                                    {"MASTER_PORT", "1234"},
                                    {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.size, 4);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 2);
  EXPECT_EQ(place.address, "node1");
  EXPECT_EQ(place.port, 1234);
  EXPECT_TRUE(place.store_is_there);
}

TEST(RankPlaces, AreReadFromMpirunAndSlurm) {
  EXPECT_EQ(place_of({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}).rank, 1);
  EXPECT_EQ(place_of({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}).size, 2);
  const RankPlace slurm = place_of({{"SLURM_PROCID", "5"},
                                    {"SLURM_STEP_NUM_TASKS", "8"},
                                    {"SLURM_LOCALID", "1"},
                                    {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"},
                                    {"SLURM_STEP_NODELIST", "gpu[07-08]"},
                                    {"SLURM_JOB_ID", "123456"}});
  EXPECT_EQ(slurm.rank, 5);
  EXPECT_EQ(slurm.local_size, 4);
  EXPECT_EQ(slurm.address, "gpu07");
  EXPECT_EQ(slurm.port, 23456);
}

TEST(RankPlaces, ASlurmBatchScriptIsNoRank) {
  EXPECT_EQ(place_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}).size, 1);
}

TEST(RankPlaces, WhatCannotBeIsRefusedByName) {
  EXPECT_THROW(place_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), Error);
  EXPECT_THROW(place_of({{"RANK", "x"}, {"WORLD_SIZE", "2"}}), Error);
  EXPECT_THROW(place_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "1"}}), Error);
}

TEST(RankPlaces, FindTheFirstHostOfANodeList) {
  EXPECT_EQ(first_host("node1"), "node1");
  EXPECT_EQ(first_host("a1,b[2-3]"), "a1");
  EXPECT_EQ(first_host("node[03-05,9],gpu1"), "node03");
  EXPECT_EQ(first_host("node[7]"), "node7");
}

TEST(RankSettings, TheFirstDifferenceIsNamedWithItsSection) {
  EXPECT_FALSE(first_difference("a:\n  b: 1\n", "a:\n  b: 1\n"));
  const auto found = first_difference("train:\n  lr0: 0.01\n", "train:\n  lr0: 0.02\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->mine, "train:   lr0: 0.01");
}

}  // namespace
}  // namespace brim::cli
