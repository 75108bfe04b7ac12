#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "brim/dataloader/dataset.h"
#include "dataloader/src/tar_headers.h"
#include "dataloader/src/tar_shards.h"
#include "support/errors.h"
#include "support/tar_files.h"
#include "support/test_data.h"
#include "support/yolo_files.h"

namespace brim {
namespace {
using detail::TarMember;
using test::error_of;
using test::tar_archive;
using test::tar_member;
using test::TempDir;
using test::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<TarMember> members_of(const std::string& bytes) {
  detail::TarWalk walk(
      [&](std::uint64_t at, void* to, std::size_t count) {
        if (at > bytes.size() || count > bytes.size() - at) return false;
        std::memcpy(to, bytes.data() + at, count);
        return true;
      },
      bytes.size(), "s.tar");
  std::vector<TarMember> members;
  while (auto member = walk.next()) members.push_back(*member);
  return members;
}

TEST(TarWalk, FindsTheBytesOfEveryFile) {
  const std::string bytes = tar_archive({{"a.jpg", "hello"}, {"d/b.txt", std::string(600, 'x')}});
  const auto members = members_of(bytes);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(bytes.substr(members[0].offset, members[0].size), "hello");
  EXPECT_EQ(members[1].name, "d/b.txt");
  EXPECT_EQ(members[1].offset, 512u * 3);
}

TEST(TarWalk, KnowsLongNamesAndSkipsFolders) {
  const std::string name(180, 'n');
  const std::string record = " path=" + name + "p\n";
  const std::string pax = std::to_string(record.size() + 3) + record;
  const std::string bytes = tar_member("d/", "", '5') +
                            tar_member("././@LongLink", name + '\0', 'L') +
                            tar_member("short", "1") + tar_member("x", pax, 'x') +
                            tar_member("short", "2") + tar_member("last", "3");
  const auto members = members_of(bytes);
  ASSERT_EQ(members.size(), 3u) << "and the closing blocks may be missing";
  EXPECT_EQ(members[0].name, name);
  EXPECT_EQ(members[1].name, name + "p");
  EXPECT_EQ(members[2].name, "last");
}

TEST(TarWalk, DamageIsAnErrorWithItsPlace) {
  const std::string good = tar_archive({{"a.jpg", "hello"}, {"b.jpg", std::string(2000, 'x')}});
  std::string bad = good;
  bad[1024 + 3] ^= 1;
  EXPECT_EQ(error_of([&] { members_of(bad); }),
            "s.tar: damaged: the header's checksum is wrong (at byte 1024)");
  EXPECT_THAT(error_of([&] { members_of(good.substr(0, 2000)); }),
              HasSubstr("cut short within 'b.jpg'"));
  EXPECT_THAT(error_of([&] { members_of(good.substr(0, 700)); }), HasSubstr("cut short"));
  EXPECT_THAT(error_of([&] { members_of("\x1F\x8B" + std::string(600, 'z')); }),
              HasSubstr("is compressed"));
  EXPECT_THAT(error_of([&] { members_of(std::string(600, 'z')); }), HasSubstr("not a tar"));
  EXPECT_THAT(error_of([&] { members_of(""); }), HasSubstr("cut short"));
}

TEST(Tar, ReadsDetectionSamplesInPlace) {
  const TempDir dir;
  const std::string image = test::jpeg_header(30, 20, 6);
  const std::string shard = tar_archive({{"x/0.jpg", image},
                                         {"x/0.txt", "1 .5 .5 .1 .1\n0 .1 .1 .1 .1 .2 .2\n"},
                                         {"x/1.png", test::png_header(7, 8)},
                                         {"x/2.json", "{\"boxes\": [[2, 0.5, 0.5, 0.2, 0.25]]}"},
                                         {"x/2.jpg", image},
                                         {"x/2.seg.png", "mask"},
                                         {"x/orphan.txt", ""}});
  write_file(dir.file("train-0.tar"), shard);
  write_file(dir.file("train-1.tar"), tar_archive({{"9.jpg", image}, {"9.txt", "0 .5 .5 .1 .1"}}));
  write_file(dir.file("classes.txt"), "ape\nbee\ncat\n");
  const auto data = open_dataset(dir.file("train-{0..1}.tar"));
  ASSERT_EQ(data->size(), 4);
  EXPECT_EQ(data->task(), Task::Detect);
  EXPECT_THAT(data->class_names(), ElementsAre("ape", "bee", "cat"));
  RecordScratch scratch;
  Record record = data->record(0, scratch);
  EXPECT_EQ(record.source.path, dir.file("train-0.tar"));
  EXPECT_EQ(shard.substr(record.source.offset, record.source.length), image);
  EXPECT_EQ(record.width, 20);
  ASSERT_EQ(record.boxes.size(), 2u);
  ASSERT_EQ(record.polygons.size(), 1u);
  EXPECT_EQ(record.polygons[0].box, 1);
  EXPECT_TRUE(data->record(1, scratch).boxes.empty());
  EXPECT_EQ(data->record(2, scratch).boxes[0].class_id, 2);
  EXPECT_EQ(data->record(3, scratch).boxes.size(), 1u);
  EXPECT_EQ(data->path(3), dir.file("train-1.tar") + ":9.jpg");
  ASSERT_EQ(data->warnings().size(), 1u);
  EXPECT_EQ(data->warnings()[0].reason, "sample 'x/orphan' has no image");
  EXPECT_EQ(open_dataset(dir.file("train-*.tar"), {.threads = 1})->fingerprint(),
            data->fingerprint());
}

TEST(Tar, ReadsClassificationSamples) {
  const TempDir dir;
  const std::string image = test::jpeg_header(30, 20);
  write_file(dir.file("train.tar"), tar_archive({{"0.jpg", image},
                                                 {"0.cls", "2\n"},
                                                 {"0.txt", "a caption"},
                                                 {"1.json", "{\"label\": 0}"},
                                                 {"1.jpg", image}}));
  const auto data = open_dataset(dir.file("train.tar"));
  EXPECT_EQ(data->task(), Task::Classify);
  EXPECT_THAT(data->class_names(), ElementsAre("0", "1", "2"));
  RecordScratch scratch;
  EXPECT_EQ(data->record(0, scratch).class_id, 2);
  EXPECT_EQ(data->record(1, scratch).class_id, 0);
  write_file(dir.file("classes.txt"), "ape\nbee\n");
  EXPECT_THAT(error_of([&] { open_dataset(dir.file("train.tar")); }),
              HasSubstr("train.tar:0.cls: class '2' is out of range: classes.txt names 2 classes"));
  write_file(dir.file("classes.txt"), "ape\nbee\ncat\n");
  write_file(dir.file("val.tar"), tar_archive({{"0.jpg", image}, {"0.cls", "bee"}}));
  const auto val = open_dataset(dir.file("train.tar"), {.split = Split::Val});
  EXPECT_EQ(val->record(0, scratch).class_id, 1);
}

TEST(Tar, WarnsOfAnArchiveWithoutItsEnd) {
  const TempDir dir;
  const std::string shard = tar_archive({{"0.jpg", test::jpeg_header(3, 2)}, {"0.cls", "0"}});
  write_file(dir.file("s.tar"), shard.substr(0, shard.size() - 1024));
  const auto data = open_tar(dir.file("s.tar"));
  ASSERT_GE(data->warnings().size(), 1u);
  EXPECT_THAT(data->warnings()[0].reason, HasSubstr("no end mark"));
}

TEST(Tar, RefusesWhatItCannotTrainOn) {
  const TempDir dir;
  const std::string image = test::jpeg_header(30, 20);
  const auto error = [&](const test::TarFiles& files) {
    write_file(dir.file("s.tar"), tar_archive(files));
    return error_of([&] { open_tar(dir.file("s.tar")); });
  };
  EXPECT_THAT(error({{"a.cls", "1"}}), HasSubstr("no images found"));
  EXPECT_THAT(error({{"a.jpg", image}, {"a.cls", "1"}, {"b.jpg", image}}),
              HasSubstr("s.tar:b.jpg: has no class, others have one"));
  EXPECT_THAT(error({{"a.jpg", image}, {"a.cls", "1"}, {"b.jpg", image}, {"b.txt", ""}}),
              HasSubstr("others have boxes"));
  EXPECT_THAT(error({{"a.jpg", image}, {"a.txt", "0 .5 .5\n"}}),
              HasSubstr("s.tar:a.txt:1: expected 5 numbers"));
  EXPECT_THAT(error({{"a.jpg", image}, {"a.json", "{"}}), HasSubstr("is no JSON object"));
  EXPECT_THAT(error_of([&] { open_tar(dir.file("none-*.tar")); }), HasSubstr("no shard matches"));
  EXPECT_THAT(error_of([&] { open_tar(dir.file("s{0..1}.tar")); }), HasSubstr("no such shard"));
}

TEST(Tar, OpensAPartWithoutTheOtherShards) {
  const TempDir dir;
  const std::string image = test::jpeg_header(30, 20);
  for (const char* number : {"1", "4"})  // of 0 to 5, those of the second of three machines
    write_file(dir.file(std::string("train-") + number + ".tar"),
               tar_archive({{std::string(number) + ".jpg", image}}));
  const auto data = open_dataset(dir.file("train-{0..5}.tar"), {.part = 1, .parts = 3});
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->path(0), dir.file("train-1.tar") + ":1.jpg");
  EXPECT_EQ(data->path(1), dir.file("train-4.tar") + ":4.jpg");
  const auto error = [&](const std::string& pattern, int part, int parts) {
    return error_of([&] { open_dataset(pattern, {.part = part, .parts = parts}); });
  };
  EXPECT_THAT(error(dir.file("train-{0..5}.tar"), 0, 3), HasSubstr("train-0.tar: no such shard"));
  EXPECT_THAT(error(dir.file("train-{0..5}.tar"), 0, 7), HasSubstr("6 shards for 7 machines"));
  EXPECT_THAT(error(dir.file("train-*.tar"), 1, 3), HasSubstr("cannot be divided"));
  EXPECT_THAT(error(dir.file("data.yaml"), 1, 3), HasSubstr("only tar shards"));
  EXPECT_THAT(error(dir.path().string(), 1, 3), HasSubstr("only tar shards"));
}

TEST(Tar, KeepsAnIndex) {
  const TempDir dir;
  const std::string image = test::jpeg_header(30, 20);
  write_file(dir.file("s.tar"), tar_archive({{"0.jpg", image}, {"0.txt", "0 .5 .5 .1 .1"}}));
  const DatasetOptions options{.index_directory = dir.file("cache")};
  const auto cold = open_tar(dir.file("s.tar"), options);
  const auto warm = open_tar(dir.file("s.tar"), options);
  EXPECT_EQ(cold->fingerprint(), warm->fingerprint());
  RecordScratch scratch;
  EXPECT_EQ(warm->record(0, scratch).source.offset, 512u);
  EXPECT_EQ(warm->path(0), cold->path(0));
}

}  // namespace
}  // namespace brim
