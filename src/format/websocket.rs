//! WebSocket frames
use super::*;
pub struct WsFlvMuxer;
impl WsFlvMuxer {
    pub fn new(_hevc: HevcForm) -> Self {
        WsFlvMuxer
    }
}
impl Muxer for WsFlvMuxer {
    fn push(&mut self, _: &MediaEvent, _: &mut Vec<Packet>) {
        todo!()
    }
    fn head(&self) -> Option<Bytes> {
        None
    }
}
