// Text files to a source's shards and manifest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus/document_reader.h"
#include "data/shard/manifest.h"
#include "data/tokenizer/tokenizer.h"

namespace terroir {

struct BuildProgress {
  const char* phase = "";  // "reading", "writing"
  std::int64_t documents = 0, tokens = 0, text_bytes = 0;
};

struct BuildOptions {
  std::string source;    // names the files: letters, digits, '.', '_', '-'
  std::string language;  // BCP 47 tag
  std::string license;   // SPDX expression
  std::string origin;    // free text or a URL
  std::filesystem::path out_folder;
  std::vector<std::filesystem::path> files;  // as DocumentReader takes them
  ReaderOptions reader;
  double validation_fraction = 0.01;  // of the documents; see HeldOutRule
  std::uint64_t seed = 0;             // of the order of documents
  std::int64_t shard_tokens = std::int64_t{1} << 26;
  int num_threads = 1;  // the result does not depend on it
  std::uint64_t memory_bytes = std::uint64_t{256}
                               << 20;  // of tokenized documents, before they go to a temporary file
  bool overwrite = false;              // replace a source that is complete
  std::function<void(const BuildProgress&)> progress;  // called after each batch; may be empty
};

// Everything that is wrong with the options, with the command line's names as keys.
std::vector<Problem> validate(const BuildOptions& options);

// Reads every document, drops exact duplicates, encodes each as [begin token] tokens [end token] where the
// tokenizer has them, shuffles all of them, holds some out, and writes SOURCE-00000.h5 ...,
// SOURCE-validation-00000.h5 ... and, last, SOURCE.manifest.json into out_folder. Everything is made in
// out_folder/SOURCE.building and moved when it is complete: an interrupted build leaves no shard and does not
// touch an older one. The same documents, options and tokenizer give the same shards, bit for bit.
//
// Memory: memory_bytes, plus the larger of a shard (about 6 bytes a token) and 1/256 of all tokenized
// documents. Throws UserError (exit 2: options, a complete source without `overwrite`, another build of it
// running; exit 3: text that is refused, no documents), SystemError (exit 5: disk full).
Manifest build_shards(const BuildOptions& options, const Tokenizer& tokenizer);

}  // namespace terroir
