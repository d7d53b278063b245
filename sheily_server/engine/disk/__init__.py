"""The disk tier of the prefix cache, as the engine has it: what is written when, what is read back,
and the threads that do so."""
