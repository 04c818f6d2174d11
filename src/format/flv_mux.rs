//! FLV out
use super::*;
pub struct FlvMuxer;
impl FlvMuxer {
    pub fn new(_hevc: HevcForm) -> Self {
        FlvMuxer
    }
}
impl Muxer for FlvMuxer {
    fn push(&mut self, _: &MediaEvent, _: &mut Vec<Packet>) {
        todo!()
    }
    fn head(&self) -> Option<Bytes> {
        None
    }
}
