/** PostgreSQL advisory locks as Reactor operators. */
@NullMarked
package io.r2lock;

import org.jspecify.annotations.NullMarked;
