package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Who is stuck behind whom, as the README shows it. */
class InspectRecipeIT {

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private static Flux<String> stuck(AdvisoryLocks locks) {
        // region blocked
        Flux<String> stuck = locks.inspect()
                .filter(lock -> !lock.blockedBy().isEmpty())
                .map(lock -> lock.names() + " is wanted since " + lock.since().orElseThrow()
                        + " by " + lock.application().orElse("somebody")
                        + " and blocked by " + lock.blockedBy());
        // endregion
        return stuck;
    }

    @Test
    void whoIsStuck_andBehindWhom() {
        AdvisoryLocks billing = clients.open(server, builder -> builder.applicationName("billing"));
        AdvisoryLocks reports = clients.open(server, builder -> builder.applicationName("reports"));
        LockKey order = LockKey.named("order", "42");
        HeldLock hold = TestClients.acquire(billing.exclusive(order));
        Disposable wait = reports.exclusive(order).guard(Mono.never()).subscribe();
        List<String> lines = Await.value(
                () -> stuck(reports)
                        .collectList()
                        .blockOptional(TestClients.PATIENCE)
                        .orElseThrow(),
                found -> found.size() == 1,
                TestClients.PATIENCE);
        assertThat(lines.get(0))
                .startsWith("[order/42] is wanted since 20")
                .endsWith("Z by reports and blocked by [" + hold.backendPid() + "]");
        wait.dispose();
        TestClients.release(hold);
    }
}
