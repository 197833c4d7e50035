// SPDX-License-Identifier: Apache-2.0
//! The wire forms are a contract with KubeArmor's clients: JSON lines as they are printed, and the
//! numbers of the protobuf fields, compared with tables written down from KubeArmor 1.7.
#![cfg(test)]

mod events;

use events::{container, container_alert, host_alert, log, message};
use expect_test::{Expect, expect};
use gorget_model::{Alert, AlertAction, Event, PolicyRef};

/// A file that no rule lists, in a container that has an allow-list.
fn posture_alert() -> Alert {
    Alert {
        policy: PolicyRef {
            name: "DefaultPosture".to_owned(),
            ..PolicyRef::default()
        },
        action: AlertAction::AuditedBlock,
        result: "Passed",
        ..container_alert()
    }
}

fn line(event: &Event, expected: &Expect) {
    expected.assert_eq(&gorget_telemetry::line(event));
}

#[test]
fn a_container_alert_is_one_line_of_json() {
    line(
        &Event::Alert(container_alert()),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","NamespaceName":"container_namespace","ContainerID":"c0ffee","ContainerName":"web","HostPID":4242,"PPID":41,"PID":42,"UID":1000,"PolicyName":"ksp-token","Severity":"7","Tags":"secrets,MITRE","Message":"a token was asked for","Type":"MatchedPolicy","Source":"/usr/bin/head -c1 /run/secrets/token","Operation":"File","Resource":"/run/secrets/token","Data":"lsm=FILE_OPEN flags=O_RDONLY","Action":"Block","Result":"Permission denied","ContainerImage":"docker.io/library/nginx:1.29","ParentProcessName":"/usr/bin/bash","ProcessName":"/usr/bin/head","HostPPID":4241,"Enforcer":"BPFLSM","Labels":"app=web,tier=front","ATags":["secrets","MITRE"],"Owner":{"Ref":"Deployment","Name":"shop","Namespace":"front"},"Cwd":"/srv","TTY":"pts0","ExecEvent":{"ExecID":"824416229130095","ExecutableName":"bash"},"KubeArmorVersion":"gorget 0.1.0","NodeID":"machine-id","ProcessHash":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","HashAlgo":"sha256","EventData":{"Flags":"O_RDONLY","Lsm":"FILE_OPEN"}}"#
        ]],
    );
}

#[test]
fn a_host_alert_names_no_container() {
    line(
        &Event::Alert(host_alert()),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","HostPID":4242,"PPID":41,"PID":42,"UID":1000,"PolicyName":"hsp-head","Type":"MatchedHostPolicy","Source":"/usr/bin/bash","Operation":"Process","Resource":"/usr/bin/head -c1 /etc/motd","Data":"lsm=SECURITY_BPRM_CHECK","Action":"Audit","Result":"Passed","ParentProcessName":"/usr/bin/bash","ProcessName":"/usr/bin/head","HostPPID":4241,"Enforcer":"BPFLSM","Cwd":"/srv","TTY":"pts0","ExecEvent":{"ExecID":"824416229130095","ExecutableName":"bash"},"KubeArmorVersion":"gorget 0.1.0","NodeID":"machine-id","ProcessHash":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","HashAlgo":"sha256","EventData":{"Lsm":"SECURITY_BPRM_CHECK"},"UserName":"alice"}"#
        ]],
    );
}

#[test]
fn an_alert_of_the_default_posture_has_no_severity_tags_or_message() {
    line(
        &Event::Alert(posture_alert()),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","NamespaceName":"container_namespace","ContainerID":"c0ffee","ContainerName":"web","HostPID":4242,"PPID":41,"PID":42,"UID":1000,"PolicyName":"DefaultPosture","Type":"MatchedPolicy","Source":"/usr/bin/head -c1 /run/secrets/token","Operation":"File","Resource":"/run/secrets/token","Data":"lsm=FILE_OPEN flags=O_RDONLY","Action":"Audit (Block)","Result":"Passed","ContainerImage":"docker.io/library/nginx:1.29","ParentProcessName":"/usr/bin/bash","ProcessName":"/usr/bin/head","HostPPID":4241,"Enforcer":"BPFLSM","Labels":"app=web,tier=front","Owner":{"Ref":"Deployment","Name":"shop","Namespace":"front"},"Cwd":"/srv","TTY":"pts0","ExecEvent":{"ExecID":"824416229130095","ExecutableName":"bash"},"KubeArmorVersion":"gorget 0.1.0","NodeID":"machine-id","ProcessHash":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","HashAlgo":"sha256","EventData":{"Flags":"O_RDONLY","Lsm":"FILE_OPEN"}}"#
        ]],
    );
}

#[test]
fn a_log_says_in_which_container() {
    line(
        &Event::Log(log(container())),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","NamespaceName":"container_namespace","ContainerID":"c0ffee","ContainerName":"web","HostPID":4242,"PPID":41,"PID":42,"UID":1000,"Type":"ContainerLog","Source":"/usr/bin/head -c1 /etc/motd","Operation":"File","Resource":"/etc/motd","Data":"lsm=FILE_OPEN","Result":"Passed","ContainerImage":"docker.io/library/nginx:1.29","ParentProcessName":"/usr/bin/bash","ProcessName":"/usr/bin/head","HostPPID":4241,"Labels":"app=web,tier=front","Owner":{"Ref":"Deployment","Name":"shop","Namespace":"front"},"Cwd":"/srv","TTY":"pts0","ExecEvent":{"ExecID":"824416229130095","ExecutableName":"bash"},"NodeID":"machine-id","ProcessHash":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","HashAlgo":"sha256","EventData":{"Lsm":"FILE_OPEN"}}"#
        ]],
    );
}

#[test]
fn a_log_of_the_host_is_a_host_log() {
    let host = gorget_model::Workload::Host(gorget_model::Host::default());
    line(
        &Event::Log(log(host)),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","HostPID":4242,"PPID":41,"PID":42,"UID":1000,"Type":"HostLog","Source":"/usr/bin/head -c1 /etc/motd","Operation":"File","Resource":"/etc/motd","Data":"lsm=FILE_OPEN","Result":"Passed","ParentProcessName":"/usr/bin/bash","ProcessName":"/usr/bin/head","HostPPID":4241,"Cwd":"/srv","TTY":"pts0","ExecEvent":{"ExecID":"824416229130095","ExecutableName":"bash"},"NodeID":"machine-id","ProcessHash":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","HashAlgo":"sha256","EventData":{"Lsm":"FILE_OPEN"}}"#
        ]],
    );
}

#[test]
fn a_threshold_is_an_alert_of_kubearmors_form_that_says_how_many() {
    let container = container_alert();
    let threshold = gorget_model::Threshold {
        unix_micros: container.unix_micros,
        node: container.node,
        workload: container.workload,
        policy: container.policy.name,
        category: container.category,
        enforcer: "BPFLSM",
        max_per_second: 10,
        seconds: 30,
        dropped: 7,
    };
    line(
        &Event::Threshold(threshold),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","NamespaceName":"container_namespace","ContainerID":"c0ffee","ContainerName":"web","PolicyName":"ksp-token","Message":"7 alerts were only counted","Type":"SystemEvent","Operation":"AlertThreshold","Data":"operation=File dropped=7","Result":"Passed","ContainerImage":"docker.io/library/nginx:1.29","Enforcer":"BPFLSM","Labels":"app=web,tier=front","MaxAlertsPerSec":10,"DroppingAlertsInterval":30,"KubeArmorVersion":"gorget 0.1.0","NodeID":"machine-id","EventData":{"Dropped":"7","Operation":"File"}}"#
        ]],
    );
}

#[test]
fn a_message_has_level_and_text() {
    line(
        &Event::Message(message("policies are in force")),
        &expect![[
            r#"{"Timestamp":1767323045,"UpdatedTime":"2026-01-02T03:04:05.000006Z","ClusterName":"default","HostName":"node-1","Type":"Message","Level":"INFO","Message":"policies are in force"}"#
        ]],
    );
}

/// Name, number and type of every field of a message of the .proto file. Map entries appear as
/// messages, `*` marks what is repeated.
fn fields(message: &str) -> Vec<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["feeder.proto"], [directory]).unwrap();
    let message = files
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .find(|found| found.name() == message)
        .unwrap();
    message
        .field
        .iter()
        .map(|field| {
            let kind = format!("{:?}", field.r#type()).to_lowercase();
            let repeated = match field.label() {
                protox::prost_reflect::prost_types::field_descriptor_proto::Label::Repeated => "*",
                _ => "",
            };
            format!("{} {} {kind}{repeated}", field.number(), field.name())
        })
        .collect()
}

#[test]
fn the_numbers_of_an_alert_are_those_of_kubearmor() {
    assert_eq!(
        fields("Alert"),
        [
            "1 Timestamp int64",
            "2 UpdatedTime string",
            "3 ClusterName string",
            "4 HostName string",
            "5 NamespaceName string",
            "6 PodName string",
            "7 ContainerID string",
            "8 ContainerName string",
            "9 HostPID int32",
            "10 PPID int32",
            "11 PID int32",
            "12 UID int32",
            "13 PolicyName string",
            "14 Severity string",
            "15 Tags string",
            "16 Message string",
            "17 Type string",
            "18 Source string",
            "19 Operation string",
            "20 Resource string",
            "21 Data string",
            "22 Action string",
            "23 Result string",
            "24 ContainerImage string",
            "25 ParentProcessName string",
            "26 ProcessName string",
            "27 HostPPID int32",
            "28 Enforcer string",
            "29 Labels string",
            "30 ATags string*",
            "31 Owner message",
            "32 Cwd string",
            "33 TTY string",
            "34 MaxAlertsPerSec int32",
            "35 DroppingAlertsInterval int32",
            "36 ExecEvent message",
            "37 KubeArmorVersion string",
            "38 NodeID string",
            "39 ProcessHash string",
            "40 ParentHash string",
            "41 ResourceHash string",
            "42 HashAlgo string",
            "43 EventData message*",
            "44 UserName string",
        ]
    );
}

#[test]
fn the_numbers_of_a_log_are_those_of_kubearmor() {
    assert_eq!(
        fields("Log"),
        [
            "1 Timestamp int64",
            "2 UpdatedTime string",
            "3 ClusterName string",
            "4 HostName string",
            "5 NamespaceName string",
            "6 PodName string",
            "7 ContainerID string",
            "8 ContainerName string",
            "9 HostPID int32",
            "10 PPID int32",
            "11 PID int32",
            "12 UID int32",
            "13 Type string",
            "14 Source string",
            "15 Operation string",
            "16 Resource string",
            "17 Data string",
            "18 Result string",
            "19 ContainerImage string",
            "20 ParentProcessName string",
            "21 ProcessName string",
            "22 HostPPID int32",
            "23 Labels string",
            "24 Owner message",
            "25 Cwd string",
            "26 TTY string",
            "27 ExecEvent message",
            "28 NodeID string",
            "29 ProcessHash string",
            "30 ParentHash string",
            "31 ResourceHash string",
            "32 HashAlgo string",
            "33 EventData message*",
            "34 UserName string",
        ]
    );
}

#[test]
fn the_numbers_of_a_message_are_those_of_kubearmor() {
    assert_eq!(
        fields("Message"),
        [
            "1 Timestamp int64",
            "2 UpdatedTime string",
            "3 ClusterName string",
            "4 HostName string",
            "5 HostIP string",
            "6 Type string",
            "7 Level string",
            "8 Message string",
        ]
    );
}
