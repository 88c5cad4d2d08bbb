package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Mono;

class FencingTokenTest {

    @Test
    void tokensAreComparedAsNumbers() {
        FencingToken nine = FencingToken.parse("9");
        FencingToken ten = FencingToken.parse("10");
        assertThat(nine).isLessThan(ten).isEqualTo(FencingToken.parse("9")).isNotEqualTo(ten);
        assertThat(nine).hasSameHashCodeAs(FencingToken.parse("9")).hasToString("fencing token 9");
        assertThat(ten.asLong()).isEqualTo(10);
        assertThat(FencingToken.parse("9223372036854775807").asLong()).isEqualTo(Long.MAX_VALUE);
    }

    @ParameterizedTest
    @ValueSource(strings = {"0", "9223372036854775808", "18446744073709551615"})
    void anIdThatABigintHasNoRoomFor_isRefused(String id) {
        assertThatIllegalStateException()
                .isThrownBy(() -> FencingToken.parse(id))
                .withMessageContaining("from 1 to 2^63-1")
                .withMessageContaining("was " + id);
    }

    @Test
    void durableTokens_areForLocksInSessionScope() {
        FakeClient client = new FakeClient();
        try {
            LockRequest lock = client.locks.exclusive(LockKey.of(1)).durableTokens();
            assertThatIllegalArgumentException()
                    .isThrownBy(lock::acquire)
                    .withMessageContaining(
                            "durableTokens() needs a lock that is taken inSession(), was inTransaction()");
            assertThatIllegalArgumentException().isThrownBy(() -> lock.guard(Mono.empty()));
            assertThatIllegalArgumentException().isThrownBy(() -> lock.guardMany(hold -> Mono.empty()));
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> client.locks
                            .permit(LockKey.of(1), 2)
                            .durableTokens()
                            .acquire())
                    .withMessageContaining("was permit(...)")
                    .withMessageContaining("permits have no fencing tokens");
            assertThat(lock.inSession().acquire()).isNotNull();
            assertThat(lock.inSession()).asString().contains("durable tokens");
        } finally {
            client.close();
        }
    }
}
