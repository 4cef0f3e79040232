/*
 * commands: the subcommands. Each parses its own arguments (argv[0] is its last word) and returns
 * the exit status of the process.
 */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

int cli_sample(int argc, char **argv);
int cli_denoise(int argc, char **argv);
int cli_mosaic(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_calibrate(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_bank_import(int argc, char **argv);
int cli_bank_info(int argc, char **argv);
int cli_bank_sheet(int argc, char **argv);
int cli_bank_list(int argc, char **argv);
int cli_key_add(int argc, char **argv);
int cli_key_remove(int argc, char **argv);
int cli_key_list(int argc, char **argv);

#endif
