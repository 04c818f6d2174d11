//! RTMP chunks
use super::*;
pub struct RtmpMuxer;
impl RtmpMuxer {
    pub fn new(_hevc: HevcForm, _message_stream: u32) -> Self {
        RtmpMuxer
    }
}
impl Muxer for RtmpMuxer {
    fn push(&mut self, _: &MediaEvent, _: &mut Vec<Packet>) {
        todo!()
    }
    fn head(&self) -> Option<Bytes> {
        None
    }
}
