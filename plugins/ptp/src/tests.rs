use crate::Ptp;
use weir_sdk::InterfacePlugin;
use weir_sdk::double::{Node, Side};
use weir_sdk::request::Attachment;
#[test]
fn probe() {
    let _node = Node::new().with_ipam_address("10.1.0.5/24", Some("10.1.0.1"));
    Ptp::add(&Attachment::new(r#"{"cniVersion":"1.1.0","name":"net","ipam":{"type":"x"}}"#)).unwrap();
}
