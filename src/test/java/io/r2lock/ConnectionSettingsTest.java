package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Settings with which the server could give a lock up before its holder knows are refused. */
class ConnectionSettingsTest {

    private static final Duration BEAT = Duration.ofSeconds(2);
    private static final Duration DEADLINE = Duration.ofSeconds(3);

    private static ClientBuilder builder() {
        return new ClientBuilder(new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
                .host("localhost")
                .username("nobody")
                .build()));
    }

    private static ConnectionSettings settings(Map<String, String> user) {
        return new ConnectionSettings("r2lock", user);
    }

    @Test
    void defaults_leaveTwoSeconds() {
        assertThatCode(() -> settings(Map.of()).check(BEAT, DEADLINE.plusSeconds(2)))
                .doesNotThrowAnyException();
        assertThatThrownBy(() -> settings(Map.of()).check(BEAT, DEADLINE.plusMillis(2_001)))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void refusal_comesAtBuild_andNamesEveryPart() {
        assertThatThrownBy(() -> builder()
                        .heartbeat(Duration.ofSeconds(4))
                        .heartbeatDeadline(Duration.ofSeconds(5))
                        .connectionSetting("tcp_keepalives_interval", "3")
                        .connectionSetting("tcp_user_timeout", "12500")
                        .build())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("min(tcp_keepalives_interval × tcp_keepalives_count, tcp_user_timeout −"
                        + " tcp_keepalives_idle) must be at least heartbeat + heartbeatDeadline + 1 s")
                .hasMessageContaining("min(3000 ms × 4, 12500 ms − 5000 ms) = 7500 ms")
                .hasMessageContaining("4000 ms + 5000 ms + 1000 ms = 10000 ms");
    }

    /** 6 s are needed with the default heartbeat. */
    @ParameterizedTest
    @CsvSource({
        "tcp_user_timeout, 11000, true",
        "tcp_user_timeout, 10999, false",
        "tcp_user_timeout, 11s, true",
        "tcp_user_timeout, ' 11 s ', true",
        "tcp_user_timeout, 10s, false",
        "tcp_user_timeout, 11000000us, true",
        "tcp_user_timeout, 1min, true",
        "tcp_user_timeout, 1, false",
        "tcp_user_timeout, 0, true",
        "tcp_keepalives_interval, 1500ms, true",
        "tcp_keepalives_interval, 1s, false",
        "tcp_keepalives_interval, 0, true",
        "tcp_keepalives_count, 3, true",
        "tcp_keepalives_count, 2, false",
        "tcp_keepalives_count, 0, true",
        "tcp_keepalives_idle, 7, true",
        "tcp_keepalives_idle, 7000ms, true",
        "tcp_keepalives_idle, 8s, false",
        "tcp_keepalives_idle, 0, false",
        "client_connection_check_interval, 0, true",
        "client_connection_check_interval, 1h, true",
    })
    void units_andZero_areReadAsTheServerDoes(String name, String value, boolean fits) {
        Runnable check = () -> settings(Map.of(name, value)).check(BEAT, DEADLINE);
        if (fits) {
            assertThatCode(check::run).doesNotThrowAnyException();
        } else {
            assertThatThrownBy(check::run)
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("is less than");
        }
    }

    @ParameterizedTest
    @CsvSource({
        "tcp_user_timeout, 13 seconds",
        "tcp_user_timeout, -1",
        "tcp_user_timeout, ''",
        "tcp_user_timeout, 1.5s",
        "tcp_user_timeout, off",
        "tcp_user_timeout, 13S",
        "tcp_user_timeout, 999999999999",
        "tcp_user_timeout, 999999999d",
        "tcp_keepalives_interval, 999999999h",
        "tcp_keepalives_count, 4s",
        "tcp_keepalives_count, four",
        "client_connection_check_interval, soon",
    })
    void valuesThatCannotBeCompared_areRefused_byName(String name, String value) {
        assertThatThrownBy(() -> builder().connectionSetting(name, value).build())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining(name)
                .hasMessageContaining(value)
                .hasMessageContaining("must be a whole number");
    }

    @Test
    void hugeValues_doNotOverflow() {
        assertThatCode(() -> settings(
                                Map.of("tcp_keepalives_interval", "999999999", "tcp_keepalives_count", "999999999"))
                        .check(BEAT, DEADLINE))
                .doesNotThrowAnyException();
    }

    @ParameterizedTest
    @ValueSource(strings = {"heartbeat", "heartbeatDeadline"})
    void heartbeatTimes_haveBounds(String option) {
        for (Duration bad :
                new Duration[] {Duration.ZERO, Duration.ofMillis(9), Duration.ofMillis(-1), Duration.ofMinutes(61)}) {
            assertThatThrownBy(() -> set(option, bad))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining(option + " ");
        }
        assertThatCode(() -> set(option, Duration.ofMillis(10)).build()).doesNotThrowAnyException();
        // in range, but not with the other defaults
        assertThatThrownBy(() -> set(option, Duration.ofHours(1)).build())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("3600000 ms");
    }

    private static ClientBuilder set(String option, Duration value) {
        return option.equals("heartbeat")
                ? builder().heartbeat(value)
                : builder().heartbeatDeadline(value);
    }

    @Test
    void answerOfTheServer_isComparedByMeaning_andLearnedOnce() {
        ConnectionSettings settings = settings(Map.of("tcp_keepalives_interval", "0", "work_mem", "8MB"));
        assertThat(settings.learn("client_connection_check_interval", "2s")).isFalse();
        assertThat(settings.learn("tcp_user_timeout", "13000")).isFalse();
        // 0 asks for whatever the system has
        assertThat(settings.learn("tcp_keepalives_interval", "75")).isFalse();
        assertThat(settings.refused()).isEmpty();

        assertThat(settings.learn("tcp_user_timeout", "0")).isTrue();
        assertThat(settings.learn("tcp_user_timeout", "0")).isFalse();
        assertThat(settings.forHeartbeat().learn("tcp_user_timeout", "0")).isFalse();
        assertThat(settings.refused()).containsExactly("tcp_user_timeout");
        assertThat(settings.all()).doesNotContainKey("tcp_user_timeout").containsEntry("work_mem", "8MB");
        assertThat(settings.forHeartbeat().all()).doesNotContainKeys("tcp_user_timeout", "work_mem");
    }

    @Test
    void nameOfTheHeartbeat_fitsIntoWhatTheServerKeeps() {
        assertThat(settings(Map.of()).forHeartbeat().all()).containsEntry("application_name", "r2lock heartbeat");
        assertThat(new ConnectionSettings("x".repeat(63), Map.of())
                        .forHeartbeat()
                        .all()
                        .get("application_name"))
                .hasSize(63)
                .endsWith(" heartbeat");
    }
}
