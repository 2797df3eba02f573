// Which of a library's algorithms computes which matrix product, as data: different algorithms round
// differently, so a run that is to continue bit for bit takes the choices it was begun with.
//
// A run's way (trainer/step/gemm_agreement.h): every rank makes its choices (num_candidates > 1: by
// measuring) or takes those of the checkpoint, agreed_choices() makes one list of all ranks' lists, and
// adopt() gives it to each of them before the first step. changed_choices() tells what a person should hear
// about.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace terroir {

struct GemmChoice {
  std::string key;        // describe(GemmDescription)
  std::string algorithm;  // to_hex(AlgorithmWords)
  double us = 0;          // measured time of one product, microseconds; 0: not measured
  bool operator==(const GemmChoice&) const = default;
};

struct GemmChoiceList {
  // The library's version and the device: choices mean nothing to others. Empty: nothing chosen yet.
  std::string library;
  std::vector<GemmChoice> choices;  // in the order of first use
  bool operator==(const GemmChoiceList&) const = default;
};

// One context's choices: ctx.cache<GemmChoices>(). The CPU backend makes none.
class GemmChoices {
 public:
  static constexpr const char* kName = "GEMM choices";

  // How many of the library's suggestions to measure when a product is first met; 1: its first one,
  // unmeasured. Measuring waits for the device and, for products that accumulate, allocates a copy of c for
  // its duration.
  int num_candidates = 1;
  GemmChoiceList made;

  // From now on takes these where the library is the same, measuring nothing; forgets what was made. An
  // algorithm the library refuses is replaced, which changed_choices() shows.
  void adopt(GemmChoiceList wanted) {
    wanted_ = std::move(wanted);
    made = {};
    ++generation_;
  }
  // What was adopted for `key` of this library, if anything.
  std::optional<GemmChoice> wanted(const std::string& library, const std::string& key) const;
  // Grows with each adopt(): what was planned before is out of date.
  int generation() const { return generation_; }

 private:
  GemmChoiceList wanted_;
  int generation_ = 0;
};

// For each product the choice of the first list that has it, over the lists whose library is that of the
// first list that has one; the others' algorithms would mean nothing.
GemmChoiceList agreed_choices(std::span<const GemmChoiceList> lists);

// One JSON object, a choice a line: {"library": "...", "choices": [{"key": "...", "algorithm": "...", "us":
// 12.5}, ...]}.
std::string to_json(const GemmChoiceList& list);
// Throws UserError (exit 4, a damaged checkpoint) that names `file`.
GemmChoiceList gemm_choices_from_json(const std::string& text, const std::string& file);

// One sentence per product that both lists hold with different algorithms, or one for a different library.
std::vector<std::string> changed_choices(const GemmChoiceList& before, const GemmChoiceList& now);

// The opaque 64 bytes of an algorithm as 128 hexadecimal digits.
using AlgorithmWords = std::array<std::uint64_t, 8>;
std::string to_hex(const AlgorithmWords& words);
std::optional<AlgorithmWords> algorithm_from_hex(const std::string& text);

// Which measured candidate to take: the first one that is at most 2 % slower than the fastest, so that noise
// does not choose between equals. REQUIRES: not empty, a time is positive or infinite (could not run).
std::size_t fastest(const std::vector<double>& us);

}  // namespace terroir
