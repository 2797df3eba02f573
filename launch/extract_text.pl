#!/usr/bin/perl
# Running text of one language out of documentation and translation files, as JSON lines.
#
#   extract_text.pl LANGUAGE SUMMARY < LIST > LANGUAGE.jsonl
#
# LIST: one file a line, as tab-separated format, source, licence, origin, path. Formats:
#   lines   plain text, one document a line, taken as it is
#   markup  HTML, or XML with Mallard's or DocBook's elements
#   mo      compiled gettext translations
#   pak     Chromium's resource packs, version 5
# Of the others only segments (paragraphs, messages) that are running text of LANGUAGE are kept, and each only the
# first time. They are joined to documents of a few thousand characters, one segment a line; a document never spans
# two files. Each output line: {"id", "text", "source", "license", "origin"}. To SUMMARY, a line is appended for each
# source: tab-separated language, source, licence, documents, bytes of text.
#
# Perl, since every Debian and Ubuntu system has it (perl-base); no modules beyond that package.
use strict;
use warnings;
use utf8;

my $max_document_chars = 4000;
my $min_words = 5;
my $min_letters_unspaced = 25;    # five words, where words are not spaced (Thai)

# How running text of a language is told from untranslated English, code and menus: most letters are of the script,
# and where the script is Latin, at least one frequent word or letter of the language occurs.
my %languages = (
    ar => {script => qr/\p{Arabic}/},
    en => {script => qr/\p{Latin}/, sign => qr/\b(?:the|a|an|of|to|and|is|in|for|you)\b/i},
    hi => {script => qr/\p{Devanagari}/},
    id => {script => qr/\p{Latin}/, sign => qr/\b(?:yang|dan|di|untuk|dengan|dari|ini|ke|pada|atau|dapat|adalah|anda)\b/i},
    ko => {script => qr/\p{Hangul}/},
    sw => {script => qr/\p{Latin}/, sign => qr/\b(?:ya|na|wa|kwa|katika|hii|huu|au|cha|ili|yako|ni|za)\b/i},
    th => {script => qr/\p{Thai}/, unspaced => 1},
    tl => {script => qr/\p{Latin}/, sign => qr/\b(?:ang|ng|mga|sa|na|ay|mo|iyong|para|ito)\b/i},
    vi => {script => qr/\p{Latin}/, sign => qr/[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]/i},
);

sub is_running_text {
    my ($text, $language) = @_;
    return 0 if $text =~ /[{}|<>\\]|%\w|\$\w|@@@|https?:|D'oh!/;    # placeholders, code, broken pages
    my $letters = () = $text =~ /\pL/g;
    my $in_script = () = $text =~ /$language->{script}/g;
    return 0 if $letters == 0 || $in_script < 0.6 * $letters;
    return 0 if $language->{sign} && $text !~ $language->{sign};
    return $in_script >= $min_letters_unspaced if $language->{unspaced};
    return split(' ', $text) >= $min_words;
}

sub tidy {
    my ($text) = @_;
    $text =~ s/[\s\x{00A0}]+/ /g;
    $text =~ s/[\x{0000}-\x{001F}\x{007F}-\x{009F}\x{00AD}\x{200B}\x{FEFF}\x{FFFD}]//g;
    $text =~ s/^ | $//g;
    return $text;
}

my %entities = (amp => '&', lt => '<', gt => '>', quot => '"', apos => "'", nbsp => ' ');

sub decode_entity {
    my ($name) = @_;
    return chr hex $1 if $name =~ /^#x([0-9a-f]{1,5})$/i;
    return chr $1 if $name =~ /^#([0-9]{1,6})$/;
    return $entities{$name} // ' ';
}

sub markup_segments {
    my ($text) = @_;
    $text =~ s/<!--.*?-->//gs;
    $text =~ s/<(script|style|head|header|aside|nav|footer|pre|screen|code|(?:mal:)?credit)\b.*?<\/\1>/\n/gs;
    $text =~ s/\s+/ /g;
    $text =~ s/<\/?(?:p|div|h\d|li|t[dhr]|d[tdl]|[uo]l|br|table|title|desc|item|para|note|section)\b[^>]*>/\n/gi;
    $text =~ s/<[^>]*>//g;
    $text =~ s/&(#?\w+);/decode_entity($1)/ge;
    return split /\n/, $text;
}

# The translations of a .mo file: 28-byte header, then tables of (length, offset).
# https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html
sub mo_segments {
    my ($bytes) = @_;
    return () if length $bytes < 28 || unpack('V', $bytes) != 0x950412de;
    my ($count, $table) = unpack 'x8 V x4 V', $bytes;
    my @segments;
    for my $i (1 .. $count - 1) {    # entry 0 is the header of the catalogue
        my ($length, $offset) = unpack 'V2', substr $bytes, $table + 8 * $i, 8;
        push @segments, split /\0/, substr $bytes, $offset, $length;
    }
    return map { s/[~_](?=\w)//gr } decoded(@segments);    # marks of keyboard shortcuts
}

# 12-byte header with the number of resources, then (id: u16, offset: u32) of each and of the end.
# https://chromium.googlesource.com/chromium/src/+/main/tools/grit/grit/format/data_pack.py
sub pak_segments {
    my ($bytes) = @_;
    my ($version, $encoding, $count) = unpack 'V C x3 v', $bytes;
    return () if $version != 5 || $encoding != 1;    # 1: UTF-8
    my @offsets = map { unpack 'x2 V', substr $bytes, 12 + 6 * $_, 6 } 0 .. $count;
    my @resources = map { substr $bytes, $offsets[$_], $offsets[$_ + 1] - $offsets[$_] } 0 .. $count - 1;
    return map { markup_segments($_) } decoded(@resources);
}

# Byte strings that are UTF-8, as characters; the others are dropped.
sub decoded { return grep { utf8::decode($_) } @_ }

my %readers = (
    lines => sub { map { split /\n/ } decoded(@_) },
    markup => sub { map { markup_segments($_) } decoded(@_) },
    mo => \&mo_segments,
    pak => \&pak_segments,
);

sub json_string {
    my ($text) = @_;
    $text =~ s/(["\\])/\\$1/g;
    $text =~ s/\n/\\n/g;
    $text =~ s/([\x00-\x1F])/sprintf '\\u%04x', ord $1/ge;
    return "\"$text\"";
}

sub print_document {
    my (%document) = @_;
    my @members = map { "\"$_\": " . json_string($document{$_}) } qw(id text source license origin);
    print '{', join(', ', @members), "}\n";
}

sub utf8_bytes {
    my ($text) = @_;
    utf8::encode($text);
    return length $text;
}

sub read_bytes {
    my ($path) = @_;
    open my $file, '<:raw', $path or die "extract_text.pl: cannot open $path: $!\n";
    local $/;
    return scalar <$file>;
}

# Consecutive segments joined up to the longest document.
sub documents_of {
    my ($format, @segments) = @_;
    return @segments if $format eq 'lines';
    my @documents;
    for my $segment (@segments) {
        if (@documents && length($documents[-1]) + length($segment) < $max_document_chars) {
            $documents[-1] .= "\n$segment";
        } else {
            push @documents, $segment;
        }
    }
    return @documents;
}

my ($code, $summary_path) = @ARGV;
die "usage: extract_text.pl LANGUAGE SUMMARY < LIST; see the head of the file\n" if @ARGV != 2 || !$languages{$code};
my $language = $languages{$code};
my (%seen, %documents, %bytes);
binmode STDIN, ':utf8';
binmode STDOUT, ':utf8';
while (my $line = <STDIN>) {
    chomp $line;
    my ($format, $source, $license, $origin, $path) = split /\t/, $line;
    my $reader = $readers{$format // ''} or die "extract_text.pl: no format in '$line'\n";
    my @segments = grep { $_ ne '' } map { tidy($_) } $reader->(read_bytes($path));
    @segments = grep { is_running_text($_, $language) } @segments unless $format eq 'lines';
    @segments = grep { !$seen{$_}++ } @segments;
    my $key = "$source\t$license";
    for my $text (documents_of($format, @segments)) {
        my $id = sprintf '%s/%06d', $source, $documents{$key}++;
        print_document(id => $id, text => $text, source => $source, license => $license, origin => $origin);
        $bytes{$key} += utf8_bytes($text);
    }
}
close STDOUT or die "extract_text.pl: cannot write: $!\n";
open my $summary, '>>', $summary_path or die "extract_text.pl: cannot open $summary_path: $!\n";
print $summary "$code\t$_\t$documents{$_}\t$bytes{$_}\n" for sort keys %documents;
close $summary or die "extract_text.pl: cannot write $summary_path: $!\n";
