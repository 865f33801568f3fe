//! Where callbacks may go: checked when they are asked for, and again at each connection.

use crate::harness::{Service, attempt_of, failed, ok, patiently, succeeded};
use anteroom::run::callback::CallbackRunner;
use anteroom::run::client::Client;
use anteroom::run::targets::{Resolver, TargetRefused, Targets};
use anteroom::run::{Outcome, RetryHint, Runner as _, Stop};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

async fn call(targets: &Targets, url: &str) -> Outcome {
    let runner = CallbackRunner::new(Client::new(targets.clone()), Vec::new());
    let attempt = attempt_of("{}", &Stop::default(), 1, Some(url));
    patiently(runner.run(attempt)).await
}

fn is_refused(outcome: Outcome) -> bool {
    let (message, retry) = failed(outcome);
    retry == RetryHint::ByPolicy && message.contains("not allowed here")
}

#[tokio::test]
async fn whatever_names_this_machine_or_its_network_is_refused() {
    let mut service = Service::answering(&[&ok("reached")]).await;
    let port = service.address.port();
    let targets = Targets::public([], false);
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::1]",
        "[::]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "0",
        "169.254.169.254",
        "10.0.0.1",
        "[fe80::1]",
    ] {
        let url = format!("http://{host}:{port}/");
        let refused = patiently(targets.check(&url)).await;
        let expected = TargetRefused::Address {
            host: host.to_owned(),
        };
        assert_eq!(refused, Err(expected), "{url}");
        assert!(is_refused(call(&targets, &url).await), "{url}");
    }
    assert!(service.is_quiet());
}

#[tokio::test]
async fn a_name_that_turns_inward_after_its_check_is_refused_when_it_is_connected_to() {
    let mut service = Service::answering(&[&ok("reached")]).await;
    let inside = service.address;
    let looked_up = Arc::new(AtomicUsize::new(0));
    let count = looked_up.clone();
    let flips = Resolver::new(move |_, port| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let outside = SocketAddr::from(([93, 184, 216, 34], port));
        async move { Ok(vec![if is_first { outside } else { inside }]) }
    });
    let targets = Targets::public([], false).resolved_by(flips);
    let url = format!("http://rebind.example:{}/", inside.port());
    assert_eq!(patiently(targets.check(&url)).await, Ok(()));
    assert!(is_refused(call(&targets, &url).await));
    assert_eq!(looked_up.load(Ordering::SeqCst), 2);
    assert!(service.is_quiet());
}

#[tokio::test]
async fn one_address_inside_is_enough_to_be_refused() {
    let both = Resolver::new(|_, port| async move {
        let addresses = [([93, 184, 216, 34], port), ([10, 0, 0, 1], port)];
        Ok(addresses.map(SocketAddr::from).to_vec())
    });
    let targets = Targets::public([], false).resolved_by(both);
    let refused = patiently(targets.check("https://both.example/")).await;
    assert!(
        matches!(refused, Err(TargetRefused::Address { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_connection_goes_to_the_addresses_that_were_checked_and_tries_each() {
    let mut service = Service::answering(&[&ok("")]).await;
    let (inside, dead) = (service.address, SocketAddr::from(([127, 0, 0, 1], 1)));
    let resolver = Resolver::new(move |_, _| async move { Ok(vec![dead, inside]) });
    let targets = Targets::public([], true).resolved_by(resolver);
    succeeded(call(&targets, "http://two.example:7/").await);
    assert_eq!(service.next().await.1.header("host"), Some("two.example:7"));
}

#[tokio::test]
async fn allowed_networks_and_loopback_are_reached() {
    let service = Service::answering(&[&ok("")]).await;
    let url = service.url();
    let by_name = url.replace("127.0.0.1", "localhost");
    let network = |text: &str| text.parse().unwrap();
    for (targets, is_allowed) in [
        (Targets::anywhere(), true),
        (Targets::public([], true), true),
        (
            Targets::public([network("127.0.0.0/8"), network("::1")], false),
            true,
        ),
        (Targets::public([network("10.0.0.0/8")], false), false),
        (Targets::public([], false), false),
    ] {
        for url in [&url, &by_name] {
            let checked = patiently(targets.check(url)).await;
            assert_eq!(checked.is_ok(), is_allowed, "{targets:?} {url}");
            let outcome = call(&targets, url).await;
            assert_eq!(
                matches!(outcome, Outcome::Succeeded(_)),
                is_allowed,
                "{outcome:?}"
            );
        }
    }
    // Loopback is this machine and nothing else of the network.
    let refused = patiently(Targets::public([], true).check("http://169.254.169.254/")).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_name_that_is_not_known_in_time_is_taken_until_it_is_connected_to() {
    let never = Resolver::new(|_, _| std::future::pending());
    let targets = Targets::public([], false).resolved_by(never);
    assert_eq!(
        patiently(targets.check("http://slow.example/")).await,
        Ok(())
    );
    let targets = Targets::public([], false);
    let url = "http://no-such-host.invalid/";
    assert_eq!(patiently(targets.check(url)).await, Ok(()));
    let (message, retry) = failed(call(&targets, url).await);
    assert!(message.contains("cannot resolve"), "{message}");
    assert_eq!(retry, RetryHint::ByPolicy);
    assert_eq!(
        patiently(targets.check("ftp://a.example/")).await,
        Err(TargetRefused::Scheme)
    );
}
