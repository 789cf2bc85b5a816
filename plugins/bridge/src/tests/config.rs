use weir_sdk::double::Node;
use weir_sdk::{CniError, InterfacePlugin};

use super::{layer2, network, refusal};
use crate::Bridge;

#[test]
fn senseless_configurations_are_refused() {
    let _node = Node::new();
    for (keys, reason) in [
        (r#""vlan": 4095"#, "key \"vlan\": invalid VLAN ID 4095"),
        (r#""vlan": -1"#, "key \"vlan\": invalid VLAN ID -1"),
        (r#""vlanTrunk": [{"id": 0}]"#, "key \"vlanTrunk.id\": invalid VLAN ID 0"),
        (r#""vlanTrunk": [{"minID": 10}]"#, "maxID is missing"),
        (r#""vlanTrunk": [{"maxID": 10}]"#, "minID is missing"),
        (r#""vlanTrunk": [{"minID": 0, "maxID": 10}]"#, "vlanTrunk.minID\": invalid VLAN ID 0"),
        (r#""vlanTrunk": [{"minID": 10, "maxID": 5000}]"#, "vlanTrunk.maxID\": invalid VLAN ID 5000"),
        (r#""vlanTrunk": [{"minID": 11, "maxID": 10}]"#, "minID 11 cannot be greater than maxID 10"),
        (r#""hairpinMode": true, "promiscMode": true"#, "cannot set hairpin mode and promiscuous mode"),
        (r#""mtu": "big""#, "key \"mtu\""),
    ] {
        refusal(Bridge::add(&layer2(keys)), CniError::CONFIG, reason);
        refusal(Bridge::status(&network(keys)), CniError::CONFIG, reason);
    }
    let unknown = layer2("").with_arguments([("K8S_POD_NAME", "web")]);
    refusal(Bridge::add(&unknown), CniError::ENVIRONMENT, "unknown args");
    Bridge::add(&layer2("").with_arguments([("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")])).unwrap();
}
