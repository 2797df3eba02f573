#include "trainer/config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>
#include <sstream>

#include "base/json.h"

namespace terroir {
namespace {

constexpr std::string_view kNoAliases =
    "aliases (*name) are not read: write the value out, or put a text in quotes";

bool is_utf8(const std::string& text) {
  try {
    Json(text).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

std::string join_key(const std::string& parent, const std::string& name) {
  return parent.empty() ? name : parent + "." + name;
}

// Turns the parser's events into the tree. A frame is a list or map still open.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const YamlOrigin& origin, std::vector<Problem>& problems)
      : origin_(origin), problems_(problems) {}

  Place place(const YAML::Mark& mark, const std::string& key) const {
    if (!origin_.has_lines || mark.is_null()) return Place{origin_.file, 0, 0, key};
    return Place{origin_.file, mark.line + 1, mark.column + 1, key};
  }
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (num_documents_++ == 1) refuse(mark, origin_.key, "a second YAML document begins here: keep one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    YamlNode node;
    // A missing value has no place of its own: show its key's.
    if (expects_value()) node.place = stack_.back().key_place;
    add(mark, std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, next_key(), std::string(kNoAliases));
    add(mark, YamlNode{});
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    if (!is_utf8(value)) refuse(mark, next_key(), "not valid UTF-8: save the file as UTF-8");
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.scalar = value;
    node.quoted = tag == "!";
    add(mark, std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    YamlNode node;
    std::optional<std::string> key = {};  // kMap: the key whose value comes next
    Place key_place = {};
  };

  void refuse(const YAML::Mark& mark, const std::string& key, const std::string& message) {
    problems_.push_back({place(mark, key), message});
  }
  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0)
      refuse(mark, next_key(), "anchors (&name) are not read: write the value out where it is used");
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!")
      refuse(mark, next_key(), "tags (" + tag + ") are not read: remove it");
  }

  bool expects_value() const { return !stack_.empty() && stack_.back().key.has_value(); }

  // The path of the node that comes next.
  std::string next_key() const {
    if (stack_.empty()) return origin_.key;
    const Frame& frame = stack_.back();
    if (frame.node.kind == YamlNode::Kind::kList)
      return join_key(frame.node.place.key, std::to_string(frame.node.items.size()));
    return frame.key ? join_key(frame.node.place.key, *frame.key) : frame.node.place.key;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    YamlNode node;
    node.kind = kind;
    node.place = place(mark, next_key());
    stack_.push_back({std::move(node)});
  }
  void close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    const YAML::Mark unused = YAML::Mark::null_mark();
    add(unused, std::move(node));
  }

  void add(const YAML::Mark& mark, YamlNode node) {
    if (node.place.file.empty()) node.place = place(mark, next_key());
    if (stack_.empty()) {
      if (num_documents_ <= 1) root_ = std::move(node);
    } else if (Frame& frame = stack_.back(); frame.node.kind == YamlNode::Kind::kList) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.key) {
      begin_entry(frame, node);
    } else {
      end_entry(frame, std::move(node));
    }
  }
  void begin_entry(Frame& frame, const YamlNode& key) {
    frame.key = key.scalar;
    frame.key_place = key.place;
    frame.key_place.key = join_key(frame.node.place.key, key.scalar);
    if (key.kind != YamlNode::Kind::kScalar)
      problems_.push_back({key.place, "a key must be a plain word, not " + describe(key)});
    else if (key.scalar == "<<" && !key.quoted)
      problems_.push_back({frame.key_place, "merge keys (<<) are not read: write the keys out"});
  }
  void end_entry(Frame& frame, YamlNode value) {
    const auto first = std::find_if(frame.node.entries.begin(), frame.node.entries.end(),
                                    [&](const YamlEntry& entry) { return entry.key == *frame.key; });
    if (first == frame.node.entries.end()) {
      frame.node.entries.push_back({*frame.key, frame.key_place, std::move(value)});
    } else {
      const std::string where =
          first->place.line > 0 ? fmt::format(" on line {}", first->place.line) : std::string();
      problems_.push_back({frame.key_place, fmt::format("duplicate key, first given{}: keep one", where)});
    }
    frame.key.reset();
  }

  const YamlOrigin& origin_;
  std::vector<Problem>& problems_;
  YamlNode root_;
  std::vector<Frame> stack_;
  int num_documents_ = 0;
};

// The first line indented with a tab, which the parser explains in other words; 0: none.
int tab_indented_line(std::string_view text) {
  int line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++line) {
    const std::size_t word = text.find_first_not_of(' ', begin);
    if (word != std::string_view::npos && text[word] == '\t') return line;
    begin = std::min(text.find('\n', begin), text.size() - 1) + 1;
  }
  return 0;
}

}  // namespace

YamlNode* YamlNode::find(std::string_view key) {
  for (YamlEntry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

const YamlNode* YamlNode::find(std::string_view key) const { return const_cast<YamlNode*>(this)->find(key); }

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return fmt::format(fmt::runtime(node.quoted ? "the quoted text \"{}\"" : "\"{}\""), node.scalar);
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a section";
  }
  return {};
}

std::optional<YamlNode> parse_yaml(std::string_view text, const YamlOrigin& origin,
                                   std::vector<Problem>& problems) {
  TreeBuilder builder(origin, problems);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const Place place = builder.place(error.mark, origin.key);
    if (const int line = tab_indented_line(text); origin.has_lines && line > 0)
      problems.push_back(
          {Place{origin.file, line, 1}, "not valid YAML: a tab indents this line: use spaces"});
    else if (error.msg.starts_with(
                 YAML::ErrorMsg::UNKNOWN_ANCHOR))  // the parser meets the alias before the builder
      problems.push_back({place, std::string(kNoAliases)});
    else
      problems.push_back({place, "not valid YAML: " + error.msg});
    return std::nullopt;
  }
  YamlNode root = builder.take();
  if (root.place.file.empty()) root.place = Place{origin.file, 0, 0, origin.key};
  return root;
}

}  // namespace terroir
