//! skeleton
use crate::read::WireError;
use crate::sse::SseEvent;
use crate::stream::{StreamError, StreamOptions};
use backstop_call::*;
use std::collections::BTreeSet;

fn soon() -> WireError { WireError { path: String::new(), problem: "is not read yet".into() } }
pub(crate) fn parse_request(_: &[u8]) -> Result<Request, WireError> { Err(soon()) }
pub(crate) fn render_request(_: &Request) -> (Vec<u8>, BTreeSet<&'static str>) { Default::default() }
pub(crate) fn parse_reply(_: &[u8]) -> Result<(Reply, Option<Usage>), WireError> { Err(soon()) }
#[derive(Debug, Default)]
pub(crate) struct StreamParser;
impl StreamParser {
    pub(crate) fn push(&mut self, _: &SseEvent) -> Result<Vec<Chunk>, StreamError> { Err(soon().into()) }
    pub(crate) fn eof(&mut self) -> Vec<Chunk> { Vec::new() }
    pub(crate) fn finished(&self) -> bool { false }
}
#[derive(Debug, Default)]
pub(crate) struct StreamRenderer;
impl StreamRenderer {
    pub(crate) fn new(_: StreamOptions) -> Self { Self }
    pub(crate) fn chunk(&mut self, _: &Chunk) -> Vec<u8> { Vec::new() }
    pub(crate) fn error(&mut self, _: &Failure) -> Vec<u8> { Vec::new() }
    pub(crate) fn end(&mut self) -> Vec<u8> { Vec::new() }
}
pub(crate) fn render_reply(_: &Reply, _: Timestamp) -> Vec<u8> { Vec::new() }
