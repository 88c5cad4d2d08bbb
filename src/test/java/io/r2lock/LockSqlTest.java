package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What goes into statements, and what comes back from {@code pg_locks}. */
class LockSqlTest {

    private static final ConnectionFacts.Limits OFF = new ConnectionFacts.Limits("0", "0");

    /** Those that {@code pg_stat_activity} may show for long. */
    private static List<String> statements(LockKey key) {
        List<String> all = new ArrayList<>();
        for (LockMode mode : LockMode.values()) {
            List<LockKey> keys = List.of(key);
            all.add(LockSql.lock(keys, mode, 0, OFF, false));
            all.add(LockSql.lock(keys, mode, 5, OFF, true));
            all.add(LockSql.tryLock(keys, mode, false));
            all.add(LockSql.lockNested(keys, mode, 0));
            all.add(LockSql.tryLockNested(keys, mode));
            all.add(SessionSql.sessionLock(key, mode, 0));
            all.add(SessionSql.sessionTryLock(key, mode));
        }
        return all;
    }

    @ParameterizedTest
    @ValueSource(strings = {"order", "a", "Order_Items-2.x", "--", "..."})
    void plainNamespace_isTheCommentBehindTheKey(String namespace) {
        LockKey key = LockKey.named(namespace, "it's */ secret");
        assertThat(statements(key))
                .allSatisfy(sql -> assertThat(sql)
                        .containsOnlyOnce("(" + key.value() + ")/*" + namespace + "*/")
                        .doesNotContain("secret")
                        // within the first kilobyte, which is what the server shows
                        .hasSizeLessThan(1_000));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "*/",
                "a*/;drop table t;/*b",
                "/*",
                "a b",
                "a\nb",
                "a\n",
                "a\r",
                "a\0",
                "é",
                "\u2028",
                "\uff0a\uff0f",
                "a'b",
                "$1",
                "$$",
                "\\",
                "?",
                ":a",
                "%s"
            })
    void otherNamespace_isNoPartOfAnyStatement(String namespace) {
        LockKey key = LockKey.named(namespace, "n");
        assertThat(statements(key)).isEqualTo(statements(LockKey.of(key.value())));
    }

    @Test
    void otherKeys_andLongNamespaces_bringNoComment() {
        for (LockKey key : List.of(
                LockKey.of(7),
                LockKey.of(1, 2),
                LockKey.md5("x"),
                LockKey.hashtext("x"),
                LockKey.named("n".repeat(65), "x"))) {
            assertThat(statements(key)).allSatisfy(sql -> assertThat(sql).doesNotContain("/*"));
        }
        assertThat(LockSql.lock(List.of(LockKey.named("n".repeat(64), "x")), LockMode.SHARED, 0, OFF, false))
                .endsWith(")/*" + "n".repeat(64) + "*/");
    }

    @ParameterizedTest
    @CsvSource({
        "0, 0, false, bigint 0",
        "4294967295, 4294967295, false, bigint -1",
        "2147483648, 0, false, bigint -9223372036854775808",
        "2147483647, 4294967295, false, bigint 9223372036854775807",
        "1, 0, false, bigint 4294967296",
        "0, 4294967295, false, bigint 4294967295",
        "0, 0, true, 'pair (0, 0)'",
        "4294967295, 1, true, 'pair (-1, 1)'",
        "2147483648, 2147483647, true, 'pair (-2147483648, 2147483647)'",
        "1, 4294967289, true, 'pair (1, -7)'"
    })
    void rowOfPgLocks_isTheKeyThatWasLocked(long classid, long objid, boolean pair, String expected) {
        LockKey key = LockKey.located(classid, objid, pair);
        assertThat(key).hasToString(expected);
        assertThat(key.isPair()).isEqualTo(pair);
        assertThat(Integer.toUnsignedLong(key.high())).isEqualTo(classid);
        assertThat(Integer.toUnsignedLong(key.low())).isEqualTo(objid);
    }
}
