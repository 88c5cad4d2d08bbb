package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;

/** What the server says that the sessions of a client are set to, and what happens where it refuses. */
class ConnectionSettingsIT {

    private static final LockKey A = LockKey.of(7_601);
    private static final LockKey B = LockKey.of(7_602);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private static String setting(HeldLock hold, String name) {
        return Objects.requireNonNull(Flux.from(hold.connection()
                        .createStatement("select setting from pg_settings where name = '" + name + "'")
                        .execute())
                .flatMap(result -> result.map(row -> Objects.requireNonNull(row.get(0, String.class))))
                .blockLast(PATIENCE));
    }

    private static SelfCheck look(AdvisoryLocks locks) {
        return Objects.requireNonNull(locks.selfCheck().block(PATIENCE));
    }

    @Test
    void settings_areThoseOfTheLockConnections_alsoAfterWorkThatChangedThem() {
        Map<String, String> expected = Map.of(
                "idle_in_transaction_session_timeout", "0",
                "idle_session_timeout", "0",
                "tcp_keepalives_idle", "5",
                "tcp_keepalives_interval", "3",
                "tcp_keepalives_count", "4",
                "tcp_user_timeout", "13000",
                "client_connection_check_interval", "2000",
                "application_name", "r2lock-it",
                "work_mem", "8192");
        for (TestServer on : List.of(server, TestServer.oldest())) {
            residue.watch(on);
            DefaultAdvisoryLocks locks = clients.open(
                    on,
                    builder -> builder.applicationName("r2lock-it")
                            .connectionSetting("tcp_keepalives_interval", "3s")
                            .connectionSetting("work_mem", "8MB")
                            .maxConnections(1));
            for (int round = 0; round < 2; round++) {
                HeldLock hold = acquire(locks.exclusive(A));
                expected.forEach((name, value) ->
                        assertThat(setting(hold, name)).as(name).isEqualTo(value));
                TestClients.execute(
                                hold,
                                "set tcp_user_timeout = 1; set work_mem = '1MB'; set idle_session_timeout = 9000000")
                        .block(PATIENCE);
                hold.commit().block(PATIENCE);
            }
            assertThat(look(locks).refusedSettings()).isEmpty();
            locks.close().block(PATIENCE);
        }
    }

    @Test
    void heartbeat_hasANameOfItsOwn() {
        DefaultAdvisoryLocks locks = clients.open(server, builder -> builder.applicationName("r2lock-it"));
        HeldLock hold = acquire(locks.exclusive(A));
        Await.until(
                "one heartbeat",
                () -> server.count("select count(*) from pg_stat_activity where query like '%pg_stat_get_activity%'"
                                + " and application_name = 'r2lock-it heartbeat'")
                        == 1);
        release(hold);
    }

    @Test
    void heartbeatThatTheServerRefuses_leavesNoConnection() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        String open = "select count(*) from pg_stat_activity where application_name like '% heartbeat'";
        try (OddDatabase odd = new OddDatabase(server).withoutHeartbeats()) {
            DefaultAdvisoryLocks locks = clients.open(
                    odd.connectionFactory(),
                    builder -> builder.heartbeat(Duration.ofMillis(100)).heartbeatDeadline(Duration.ofSeconds(1)));
            HeldLock hold = acquire(locks.exclusive(A));
            assertThat(hold.lost().toFuture())
                    .failsWithin(PATIENCE)
                    .withThrowableThat()
                    .withMessageContaining("has not answered");
            release(hold);
            // one that came too late to be asked anything is kept for the next hold
            Await.until("end of the refused ones", () -> server.count(open) <= 3);
            locks.close().block(PATIENCE);
            Await.until("end of all", () -> server.count(open) == 0);
        }
    }

    @Test
    void settingThatTheServerRefuses_isReportedOnce_andLocksWorkAllTheSame() {
        String error = "raise exception 'not here' using errcode = '55P02';";
        String ignore = "return '0';";
        for (String treatment : List.of(error, ignore)) {
            try (OddDatabase odd = new OddDatabase(server).treating("tcp_user_timeout", treatment);
                    LogCount warnings = new LogCount(Level.WARN)) {
                residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
                DefaultAdvisoryLocks locks = clients.open(odd.connectionFactory(), builder -> {});
                HeldLock a = acquire(locks.exclusive(A));
                HeldLock b = acquire(locks.exclusive(B));
                assertThat(setting(a, "client_connection_check_interval")).isEqualTo("2000");
                assertThat(setting(b, "tcp_keepalives_idle")).isEqualTo("5");
                release(a);
                release(b);
                SelfCheck found = look(locks);
                assertThat(found.refusedSettings()).containsExactly("tcp_user_timeout");
                assertThat(found.isReliable()).isTrue();
                assertThat(found.toString())
                        .contains("refused [tcp_user_timeout]", "may keep the locks of a dead client");
                assertThat(warnings.messages()).singleElement().asString().contains("tcp_user_timeout");
                locks.close().block(PATIENCE);
            }
        }
    }

    @Test
    void settingOfTheUser_thatTheServerRefuses_isAnErrorThatNamesIt() {
        for (Map.Entry<String, String> bad : Map.of(
                        "work_mem", "nonsense", "no_such_setting", "1", "max_connections", "7")
                .entrySet()) {
            DefaultAdvisoryLocks locks =
                    clients.open(server, builder -> builder.connectionSetting(bad.getKey(), bad.getValue()));
            for (int i = 0; i < 2; i++) {
                assertThatThrownBy(() -> acquire(locks.exclusive(A)))
                        .isInstanceOf(LockServerException.class)
                        .hasMessageContaining(bad.getKey());
            }
            assertThatThrownBy(() -> look(locks))
                    .isInstanceOf(LockServerException.class)
                    .hasMessageContaining(bad.getKey());
            locks.close().block(PATIENCE);
        }
    }
}
