//! A pass over JSON: its grammar, and how much its texts say. Owned here is what every body has in common; which fields
//! matter is known to who calls.

use crate::WireError;
use crate::read::Path;
use backstop_call::Size;
use std::ops::Range;

/// Containers within containers; what `serde_json` reads at most.
const DEPTH_MAX: usize = 127;
/// The containers in which what is passed may stand.
const SKIPPED_DEPTH: usize = 8;

/// In a box, so that what goes well takes a register.
pub(super) type Scanned<T = ()> = Result<T, Box<WireError>>;

/// A pass over a body.
pub(super) struct Scan<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Whether there is any control character: between values they are blanks, in a string they are not allowed.
    has_controls: bool,
    pub(super) size: Size,
    pub(super) pictures_bytes: u64,
}

/// Where a value stands, as far as it matters for what it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'k> {
    /// The name it has, as written between the quotes; empty in a list.
    name: &'k [u8],
    /// The name of what it stands in.
    parent: &'k [u8],
    depth: usize,
    /// Within the arguments or the schema of a tool, where nothing is a picture.
    opaque: bool,
}

impl<'k> Place<'k> {
    /// The value of this name in the body itself.
    pub(super) fn in_body(name: &'k [u8]) -> Self {
        Self { name, parent: b"", depth: 1, opaque: false }
    }
}

impl<'a> Scan<'a> {
    pub(super) fn over(bytes: &'a [u8]) -> Self {
        let has_controls = has_controls(bytes);
        Self { bytes, at: 0, has_controls, size: Size::default(), pictures_bytes: 0 }
    }

    #[cold]
    fn wrong<T>(&self, problem: &str) -> Scanned<T> {
        Err(Path::Root.wrong(format!("is no valid JSON ({problem} at byte {})", self.at)).into())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Scanned {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.expected(byte)
    }

    #[cold]
    fn expected(&self, byte: u8) -> Scanned {
        self.wrong(&format!("expected `{}`", char::from(byte)))
    }

    /// The whole body: one object, and nothing behind it. `value` is called as by [`Scan::members`].
    pub(super) fn body(&mut self, value: impl FnMut(&mut Self, Range<usize>) -> Scanned) -> Scanned {
        self.blanks();
        if self.peek() != Some(b'{') {
            return Err(Path::Root.wrong("must be a JSON object").into());
        }
        self.at += 1;
        self.members(value)?;
        self.blanks();
        if self.at < self.bytes.len() {
            return self.wrong("something follows");
        }
        Ok(())
    }

    /// The members of an object behind its opening brace. `value` is called where each value begins, with where its name
    /// stands, quotes included.
    fn members(&mut self, mut value: impl FnMut(&mut Self, Range<usize>) -> Scanned) -> Scanned {
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            let from = self.at;
            self.string()?;
            let name = from..self.at;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            value(self, name)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("expected `,` or `}`"),
            }
        }
    }

    pub(super) fn value(&mut self, place: Place<'a>) -> Scanned {
        match self.peek() {
            Some(b'"') => {
                let from = self.at;
                self.string()?;
                self.measure(from + 1..self.at - 1, place);
                Ok(())
            }
            Some(b'{') => {
                if place.depth >= DEPTH_MAX {
                    return self.wrong("too many levels");
                }
                self.at += 1;
                self.members(|scan, name| {
                    let raw = &scan.bytes[name.start + 1..name.end - 1];
                    // A request of Responses has its conversation under `input`; below that it is a tool's.
                    let opaque =
                        place.opaque || matches!(raw, b"input" | b"input_schema" | b"parameters" | b"schema");
                    scan.value(Place { name: raw, parent: place.name, depth: place.depth + 1, opaque })
                })
            }
            Some(b'[') => self.items(place),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }
    }

    /// What stands between the quotes of a name.
    pub(super) fn name(&self, name: &Range<usize>) -> &'a [u8] {
        &self.bytes[name.start + 1..name.end - 1]
    }

    /// Passes a value.
    pub(super) fn skip(&mut self) -> Scanned {
        self.value(Place { name: b"", parent: b"", depth: SKIPPED_DEPTH, opaque: true })
    }

    pub(super) fn is_null(&self) -> bool {
        self.peek() == Some(b'n')
    }

    pub(super) fn is_list(&self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Reads an object's members as [`Scan::members`] does; `null` has none.
    pub(super) fn object(&mut self, value: impl FnMut(&mut Self, Range<usize>) -> Scanned) -> Scanned {
        if self.is_null() {
            return self.word("null");
        }
        self.expect(b'{')?;
        self.members(value)
    }

    /// Reads a list's items, `item` is called where each begins; `null` has none.
    pub(super) fn list(&mut self, item: impl FnMut(&mut Self) -> Scanned) -> Scanned {
        if self.is_null() { self.word("null") } else { self.each(item) }
    }

    /// Reads a string; `None` is `null`.
    pub(super) fn text(&mut self) -> Scanned<Option<String>> {
        if self.is_null() {
            return self.word("null").map(|()| None);
        }
        let from = self.at;
        self.string()?;
        let quoted = &self.bytes[from..self.at];
        if quoted.contains(&b'\\') {
            return serde_json::from_slice(quoted).map(Some).or_else(|_| self.wrong("half of a character"));
        }
        let text = std::str::from_utf8(&quoted[1..quoted.len() - 1]).unwrap_or_default();
        Ok(Some(text.to_owned()))
    }

    /// Reads a whole number from 0 up; `None` is `null`.
    pub(super) fn count(&mut self) -> Scanned<Option<u64>> {
        if self.is_null() {
            return self.word("null").map(|()| None);
        }
        let from = self.at;
        self.number()?;
        let digits = std::str::from_utf8(&self.bytes[from..self.at]).unwrap_or_default();
        digits.parse().map(Some).or_else(|_| self.wrong("expected a whole number from 0 up"))
    }

    fn items(&mut self, place: Place<'a>) -> Scanned {
        if place.depth >= DEPTH_MAX {
            return self.wrong("too many levels");
        }
        let within = Place { name: b"", parent: place.name, depth: place.depth + 1, ..place };
        self.each(|scan| scan.value(within))
    }

    /// The items of a list. `item` is called where each begins.
    fn each(&mut self, mut item: impl FnMut(&mut Self) -> Scanned) -> Scanned {
        self.expect(b'[')?;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            item(self)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong("expected `,` or `]`"),
            }
        }
    }

    fn word(&mut self, word: &str) -> Scanned {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.wrong("an unknown word")
    }

    fn number(&mut self) -> Scanned {
        let digits = |scan: &mut Self| {
            let from = scan.at;
            while matches!(scan.peek(), Some(b'0'..=b'9')) {
                scan.at += 1;
            }
            if scan.at > from { Ok(()) } else { scan.wrong("expected a value") }
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => digits(self)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(())
    }

    /// A string, from quote to quote.
    fn string(&mut self) -> Scanned {
        self.expect(b'"')?;
        loop {
            let rest = &self.bytes[self.at..];
            let plain = &rest[..plain_bytes(rest)];
            if self.has_controls && has_controls(plain) {
                self.at += plain.iter().position(|byte| *byte < 0x20).unwrap_or(0);
                return self.wrong("a control character in a string");
            }
            self.at += plain.len();
            match rest.get(plain.len()) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.escape()?,
                None => return self.wrong("a string without an end"),
            }
        }
    }

    fn escape(&mut self) -> Scanned {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            // Half of a surrogate pair is grammatical, and for the provider to judge.
            Some(b'u') => self.hex()?,
            _ => return self.wrong("an unknown escape"),
        }
        Ok(())
    }

    /// Four hexadecimal digits behind a `u`.
    fn hex(&mut self) -> Scanned {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return self.wrong("an unknown escape");
        }
        self.at += 5;
        Ok(())
    }

    /// A picture counts by the piece and not by its bytes.
    fn measure(&mut self, text: Range<usize>, place: Place<'_>) {
        if place.opaque {
            return;
        }
        let bytes = &self.bytes[text];
        let length = bytes.len() as u64;
        match (place.parent, place.name) {
            (b"source", b"data") if !is_picture(bytes) => self.size.documents += length,
            (b"source", b"data") => self.picture(length),
            (_, b"file_data") => self.size.documents += length,
            (_, b"file_url") => self.size.linked_documents += 1,
            // The type of what an address leads to may stand behind it; its ending is a sign as well.
            (b"source", b"url") if bytes.to_ascii_lowercase().ends_with(b".pdf") => {
                self.size.linked_documents += 1;
            }
            (b"image_url", b"url") | (_, b"image_url") if bytes.starts_with(b"data:") => self.picture(length),
            (b"source" | b"image_url", b"url") | (_, b"image_url") => self.picture(0),
            _ => {}
        }
    }

    fn picture(&mut self, inline_bytes: u64) {
        self.size.images += 1;
        self.pictures_bytes += inline_bytes;
    }
}

/// Whether base64 is that of a picture, by how the formats begin: PNG, JPEG, GIF, WebP.
fn is_picture(base64: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 4] = [b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR"];
    BEGINNINGS.iter().any(|beginning| base64.starts_with(beginning))
}

/// How many characters a text has; `None` when it is none.
pub(super) fn chars(bytes: &[u8]) -> Option<usize> {
    if bytes.is_ascii() {
        return Some(bytes.len());
    }
    std::str::from_utf8(bytes).ok().map(|text| text.chars().count())
}

fn has_controls(bytes: &[u8]) -> bool {
    // All of them, and not up to the first: so many are looked at with one instruction.
    bytes.iter().fold(0, |found, byte| found | u8::from(*byte < 0x20)) > 0
}

/// How many bytes come before a quote or a backslash.
fn plain_bytes(text: &[u8]) -> usize {
    /// Most strings are names and short values; a search that is made for long texts takes longer to begin.
    const SHORT: usize = 32;
    let mut at = 0;
    while at < SHORT
        && let Some(eight) = text[at..].first_chunk()
    {
        let eight = u64::from_le_bytes(*eight);
        let found = zeros(eight ^ each(b'"')) | zeros(eight ^ each(b'\\'));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &text[at..];
    at + memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each byte that is zero; above the first of them, others may be set too.
const fn zeros(eight: u64) -> u64 {
    eight.wrapping_sub(each(1)) & !eight & each(0x80)
}
