// SPDX-License-Identifier: Apache-2.0
//! Ways round a policy, each performed by root in a privileged container: first without a policy,
//! where it must succeed, or the test would prove nothing, then with one, where it must not.
//!
//! A test begins with the number of its row in the list of known bypasses. What an attacker can do
//! all the same is in `docs/threat-model.md`.
//!
//! All tests share one container and one agent, because starting them takes a hundred times as long
//! as an attack: so this is a test program without the standard harness, that says what happens in
//! the same words. Arguments name tests by a part of their names. After a failure the container and
//! the agent are started afresh.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test program that runs programs"
)]

mod descriptors;
mod ground;
mod kernel;
mod mounts;
mod names;
mod programs;

use ground::Ground;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

type Test = fn(&mut Ground);

macro_rules! tests {
    ($($module:ident::$test:ident,)*) => {
        &[$((stringify!($test), $module::$test as Test),)*]
    };
}

const TESTS: &[(&str, Test)] = tests![
    names::b01_a_rule_for_a_link_covers_what_it_leads_to,
    names::b01_a_symbolic_link_to_the_file_is_no_other_name,
    names::b02_no_second_name_is_given_to_what_a_rule_blocks,
    names::b03_a_directory_that_a_pattern_leads_through_is_not_moved,
    names::b03_neither_the_file_nor_a_directory_above_it_is_moved,
    mounts::b04_a_mount_is_not_moved_away_nor_taken_off,
    mounts::b04_another_proc_has_the_names_of_the_first,
    mounts::b04_no_mount_shows_a_protected_tree_elsewhere,
    mounts::b04_nothing_is_put_over_what_may_run,
    mounts::b04_a_file_system_of_the_kernel_mounted_again_has_the_same_names,
    mounts::b04_the_disk_mounted_again_has_the_same_names,
    mounts::b04_the_new_mount_interface_shows_no_protected_tree_either,
    mounts::b05_another_mount_namespace_is_no_way_out,
    names::b06_another_root_directory_changes_no_path,
    kernel::b07_another_containers_root_is_in_no_allow_list,
    names::b07_no_way_through_proc_is_another_name,
    mounts::b08_a_stacked_file_system_shows_nothing_under_another_name,
    programs::b09_what_has_no_name_does_not_run_where_only_names_may,
    programs::b10_a_loader_does_not_hide_who_acts,
    programs::b10_a_loader_is_the_program_that_it_runs,
    programs::b10_a_loader_that_may_run_runs_nothing_else,
    programs::b11_a_format_that_is_registered_runs_no_blocked_interpreter,
    programs::b11_a_rule_for_one_name_of_busybox_is_for_all_of_it,
    programs::b11_a_script_that_may_not_be_read_is_not_interpreted,
    programs::b11_every_interpreter_of_a_script_is_judged,
    programs::b11_it_does_not_matter_who_starts_a_program,
    kernel::b12_no_cgroup_is_a_way_out,
    kernel::b12_the_hosts_process_numbers_make_nobody_the_host,
    kernel::b12_what_joins_a_container_belongs_to_it,
    descriptors::b13_requests_in_a_ring_are_judged_as_calls_are,
    descriptors::b13_sockets_in_a_ring_are_judged_as_calls_are,
    descriptors::b14_a_link_that_changes_while_it_is_opened_leads_past_no_rule,
    descriptors::b14_arguments_that_change_while_a_program_starts_are_those_it_gets,
    descriptors::b15_what_is_open_already_is_judged_again,
    descriptors::b16_a_mount_too_deep_for_a_path_shows_nothing,
    descriptors::b16_no_path_is_too_deep_or_too_long,
    descriptors::b16_what_has_no_path_is_in_no_allow_list,
    programs::b17_a_copy_does_not_run_where_only_names_may,
    programs::b17_a_copy_takes_no_allowed_name_where_writing_is_blocked,
    kernel::b18_an_address_in_another_form_is_the_same_protocol,
    kernel::b18_an_allow_list_of_protocols_covers_every_family,
    kernel::b19_a_handle_is_no_other_name,
    kernel::b19_nothing_of_a_read_only_file_is_changed,
    kernel::b19_the_disk_under_the_files_is_out_of_reach_with_rules_of_its_own,
    kernel::b22_what_another_module_permits_is_judged_and_what_it_denies_stays_denied,
    mounts::b04_no_number_of_mounts_makes_a_mount_forgotten,
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let tests: Vec<_> = TESTS.iter().filter(|(name, _)| is_wanted(name)).collect();
    println!("running {} tests", tests.len());
    let (mut ground, mut failed) = (None, 0);
    for (name, test) in &tests {
        let passed = catch_unwind(AssertUnwindSafe(|| {
            let ground = ground.get_or_insert_with(Ground::new);
            ground.tidy();
            test(ground);
        }));
        println!(
            "test {name} ... {}",
            if passed.is_ok() { "ok" } else { "FAILED" }
        );
        if passed.is_err() {
            failed += 1;
            ground = None;
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {} passed; {failed} failed",
        tests.len() - failed
    );
    ExitCode::from(u8::from(failed != 0))
}
