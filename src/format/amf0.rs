//! AMF0
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
}
