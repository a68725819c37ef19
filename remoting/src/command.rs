//! `RemotingCommand`: one request or response, decoded or about to be encoded.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::ext::ExtFields;
use crate::header::{Header, HeaderError};
use crate::version::CURRENT_VERSION;

/// Bit 0 of `flag`: the command is a response.
pub const FLAG_RESPONSE: i32 = 1;
/// Bit 1 of `flag`: no response is wanted.
pub const FLAG_ONEWAY: i32 = 2;

/// How a header is written on the wire. A response copies its request's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SerializeType {
    #[default]
    Json = 0,
    RocketMq = 1,
}

/// The language of the sender, as in RocketMQ's enum; the discriminant is the binary id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum LanguageCode {
    #[default]
    Java = 0,
    Cpp = 1,
    Dotnet = 2,
    Python = 3,
    Delphi = 4,
    Erlang = 5,
    Ruby = 6,
    Other = 7,
    Http = 8,
    Go = 9,
    Php = 10,
    Oms = 11,
    Rust = 12,
    NodeJs = 13,
}

impl LanguageCode {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Java, "JAVA"),
        (Self::Cpp, "CPP"),
        (Self::Dotnet, "DOTNET"),
        (Self::Python, "PYTHON"),
        (Self::Delphi, "DELPHI"),
        (Self::Erlang, "ERLANG"),
        (Self::Ruby, "RUBY"),
        (Self::Other, "OTHER"),
        (Self::Http, "HTTP"),
        (Self::Go, "GO"),
        (Self::Php, "PHP"),
        (Self::Oms, "OMS"),
        (Self::Rust, "RUST"),
        (Self::NodeJs, "NODE_JS"),
    ];

    /// The name in JSON headers and connection lists.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The language of a JSON name; an unknown one is `Other`.
    pub fn from_name(name: &str) -> Self {
        Self::ALL
            .iter()
            .find(|(_, n)| *n == name)
            .map_or(Self::Other, |(l, _)| *l)
    }

    /// The language of a binary id; an unknown one is `Other`.
    pub fn from_ordinal(ordinal: u8) -> Self {
        Self::ALL
            .get(ordinal as usize)
            .map_or(Self::Other, |(l, _)| *l)
    }
}

impl fmt::Display for LanguageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The opaque payload of a command. `Parts` are written one after the other without being joined in memory.
#[derive(Clone, Debug, Default)]
pub enum Body {
    #[default]
    Empty,
    One(Bytes),
    Parts(Vec<Bytes>),
}

impl Body {
    /// Bytes in all parts together.
    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len(),
            Self::Parts(parts) => parts.iter().map(Bytes::len).sum(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body in one piece; copies only when there are several parts.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(bytes) => bytes.clone(),
            Self::Parts(parts) if parts.len() == 1 => parts[0].clone(),
            Self::Parts(parts) => {
                let mut all = BytesMut::with_capacity(self.len());
                parts.iter().for_each(|p| all.extend_from_slice(p));
                all.freeze()
            }
        }
    }

    /// The parts in order; empty for no body.
    pub fn parts(&self) -> &[Bytes] {
        match self {
            Self::Empty => &[],
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Parts(parts) => parts,
        }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::One(bytes)
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<BytesMut> for Body {
    fn from(bytes: BytesMut) -> Self {
        bytes.freeze().into()
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(parts: Vec<Bytes>) -> Self {
        Self::Parts(parts)
    }
}

/// A request or response.
#[derive(Clone, Debug, PartialEq)]
pub struct RemotingCommand {
    /// Request code, or response code when [`FLAG_RESPONSE`] is set.
    pub code: i32,
    pub language: LanguageCode,
    /// The sender's version ordinal (see [`crate::version`]).
    pub version: i32,
    /// Matches a response to its request; each side numbers its own requests.
    pub opaque: i32,
    pub flag: i32,
    /// Error text or status name.
    pub remark: Option<String>,
    pub ext: ExtFields,
    pub body: Body,
    pub serialize: SerializeType,
}

impl RemotingCommand {
    /// A request; the channel gives it a fresh opaque when it is sent.
    pub fn request(code: i32) -> Self {
        Self {
            code,
            language: LanguageCode::Rust,
            version: CURRENT_VERSION,
            opaque: 0,
            flag: 0,
            remark: None,
            ext: ExtFields::new(),
            body: Body::Empty,
            serialize: SerializeType::Json,
        }
    }

    /// A request with a typed header.
    pub fn request_with<H: Header>(code: i32, header: &H) -> Self {
        Self::request(code).with_header(header)
    }

    /// A response to `req`: same opaque and serialization.
    pub fn reply_to(req: &RemotingCommand, code: i32) -> Self {
        Self {
            opaque: req.opaque,
            serialize: req.serialize,
            ..Self::response(code)
        }
    }

    /// A response whose opaque and serialization are set from the request when it is sent through
    /// [`crate::server::Request::reply`].
    pub fn response(code: i32) -> Self {
        Self {
            language: LanguageCode::Java,
            flag: FLAG_RESPONSE,
            ..Self::request(code)
        }
    }

    /// A response that says what went wrong.
    pub fn error_reply(req: &RemotingCommand, code: i32, remark: impl Into<String>) -> Self {
        Self::reply_to(req, code).with_remark(remark)
    }

    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub fn with_header<H: Header>(mut self, header: &H) -> Self {
        header.encode(&mut self.ext);
        self
    }

    pub fn with_ext(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.ext.set(key, value);
        self
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub fn mark_oneway(&mut self) {
        self.flag |= FLAG_ONEWAY;
    }

    /// The typed header of this command.
    pub fn header<H: Header>(&self) -> Result<H, HeaderError> {
        H::decode(&self.ext)
    }
}
