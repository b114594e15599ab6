@echo off
rem Runs the built program with its arguments; builds it first where that has not been done.
set "program=%~dp0artifacts\bin\MelFusion.Cli\release\MelFusion.Cli.exe"
if not exist "%program%" dotnet build "%~dp0src\MelFusion.Cli" -c Release --nologo -v q 1>&2 || exit /b 1
"%program%" %*
exit /b %ERRORLEVEL%
